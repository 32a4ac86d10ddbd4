"""The model, torch only: text and location encoders, momentum, losses, checkpoint. Knows no configuration object."""
