"""Free words: the table from what people type to the looks, modifiers and scenes of pocket, and how well it does."""
