"""Training objectives: the examples of a step, its losses, and the parameters that it trains.

| objective | stage | examples | losses (m3gal_cli/core/losses.py) | negatives |
|---|---|---|---|---|
| `momentum_contrast.MomentumContrast` | pretrain | pairs of views | `queue_logits`, `pretrain_losses` | `KeyQueue` |
| `candidate_ranking.CandidateRanking` | finetune | records | `score_logits`, `candidate_losses` | candidate lists |

`KeyQueue`, the momentum queue, is in m3gal_cli/core/momentum_queue.py. `objective.Objective` is the interface that the
trainer calls.
"""
