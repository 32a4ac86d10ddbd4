"""Training, from settings to a finished run.

| part | place |
|---|---|
| start: read data, open the model | `pipelines.run_pretrain`, `pipelines.run_finetune` |
| one training: resume, train, fit the reranker | `stage.run_stage` |
| training loop and training step | `trainer.Trainer.fit`, `trainer.Trainer.step` |
| examples, logits and losses of a step; momentum queue | `objectives/` |
| learning rate schedule, order of rows | `schedules.py` |
| model soup: mean weights of several trainings | `model_soup.run_soup` |
| reranker weights, fitted before and after a training | `reranker_fit.py` |
| files of a run; its HTML page and picture | `run_directory.py`; `report/` |
"""
