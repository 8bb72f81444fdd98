"""Makes the pocket model: data, autoencoder, denoiser, export, sheets, evaluation. No other folder but benchmarks imports it."""
