"""lm-eval over `/v1/completions`: a task of multiple choice over a file of this machine."""

import json
import os
import sys
import tempfile
from pathlib import Path

from lm_eval import simple_evaluate

DOCUMENTS = [
    {"question": "The capital of France is", "choices": [" Paris", " London", " a banana"], "answer": 0},
    {"question": "def add(a, b):\n    return", "choices": [" a + b", " a banana", " 世界"], "answer": 0},
    {"question": "1, 2, 3, 4,", "choices": [" 9, 9", " 5, 6", " the end of the world"], "answer": 1},
    {"question": "She closed the door and went", "choices": [" home", " banana", "."], "answer": 0},
]


def task(folder: Path) -> dict[str, object]:
    file = folder / "documents.json"
    file.write_text(json.dumps(DOCUMENTS), encoding="utf-8")
    return {
        "task": "what_comes_next",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file)}, "cache_dir": str(folder)},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}],
    }


with tempfile.TemporaryDirectory() as name:
    results = simple_evaluate(
        model="local-completions",
        model_args={
            "model": "smollm2-135m",
            "base_url": f"{os.environ['OPENAI_BASE_URL']}/completions",
            "tokenizer": os.environ["MODEL_FOLDER"],
            "tokenizer_backend": "huggingface",
            "max_length": 2048,
        },
        batch_size=4,
        tasks=[task(Path(name))],
        bootstrap_iters=0,
    )
    json.dump(
        {
            "accuracy": results["results"]["what_comes_next"]["acc,none"],
            "samples": [
                {"document": sample["doc"], "choices": [result[0] for result in sample["filtered_resps"]]}
                for sample in sorted(results["samples"]["what_comes_next"], key=lambda sample: sample["doc_id"])
            ],
        },
        sys.stdout,
    )
