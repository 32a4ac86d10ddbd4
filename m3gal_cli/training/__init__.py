"""One loop for both stages; pretraining and finetuning are a step function and parameter groups each."""
