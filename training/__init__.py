"""How the pocket model is made: data, autoencoder, denoiser, export, sheets, evaluation. Nothing imports this package."""
