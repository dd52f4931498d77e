"""Count on one of two processes that have different numbers of texts and batches. Run by test_linking_metrics.py.

Usage: python tests/lit_modules/linking_metrics_processes.py FOLDER RANK
"""

import json
import sys
from pathlib import Path

import torch.distributed as dist

from lit_modules.parts.linking_metrics import LinkingAccuracy, LinkingF1, MentionF1
from tests.lit_modules.test_linking_metrics import as_floats, some_texts

if __name__ == "__main__":
    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    predicted, gold = some_texts(100)
    metrics = [MentionF1(), LinkingF1(), LinkingAccuracy()]
    # 59 texts in 4 batches, and 41 in 3.
    texts = range(59) if rank == 0 else range(59, 100)
    for batch in (texts[start : start + 16] for start in range(0, len(texts), 16)):
        for metric in metrics:
            metric.update([predicted[n] for n in batch], [gold[n] for n in batch])
    (folder / f"{rank}.json").write_text(json.dumps([as_floats(metric) for metric in metrics]))
    dist.barrier()
    dist.destroy_process_group()
