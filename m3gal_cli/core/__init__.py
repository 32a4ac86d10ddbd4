"""The model in torch: text and location encoders, momentum contrast, losses, checkpoints. Imports no configuration."""
