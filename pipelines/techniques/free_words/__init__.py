"""Free words: what people type, as a model's own looks, modifiers and scenes. Knows no network, no file."""
