"""A server like the script that this project replaced: `POST /`, one model, one worker, one request at a time.

It is slow on purpose, and only in the way that the script was: `generate` runs inside the asynchronous handler, on
the main thread, in bfloat16, so the event loop stops and every other request waits; after each answer it collects
garbage and empties the CUDA cache. Its contract is that of `POST /`; `x-completion-tokens` is the benchmark's own.
"""

import argparse
import gc
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.responses import JSONResponse
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.load.ask import TOKENS_HEADER


def build(folder: Path) -> FastAPI:
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, local_files_only=True)
    app = FastAPI(openapi_url=None)

    @app.get("/readyz")
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/")
    async def answer(request: Request) -> Response:
        body = await request.json()
        prompt, history = body["prompt"], body.get("history") or []
        turns = [{"role": role, "content": text} for turn in history for role, text in zip(ROLES, turn, strict=True)]
        ids = tokenizer.apply_chat_template(
            [*turns, {"role": "user", "content": prompt}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        new = generate(model, ids, body)
        response = tokenizer.decode(new, skip_special_tokens=True)
        clean_up()
        time = datetime.now().strftime("%Y-%m-%d %H:%M:%S")  # noqa: DTZ005  # the contract's local time
        whole = {"response": response, "history": [*history, [prompt, response]], "status": 200, "time": time}
        return JSONResponse(whole, headers={TOKENS_HEADER: str(len(new))})

    return app


ROLES = ("user", "assistant")


def generate(model: Any, ids: Any, body: dict[str, Any]) -> list[int]:
    """The new tokens, sampled as the contract says."""
    output = model.generate(
        **ids,
        max_new_tokens=body.get("max_length") or 1024,
        do_sample=True,
        top_k=body.get("top_k") or 5,
        top_p=body.get("top_p") or 0.7,
        temperature=body.get("temperature") or 0.95,
        repetition_penalty=body.get("repetition_penalty") or 1.1,
        pad_token_id=model.config.pad_token_id,
    )
    new: list[int] = output[0, ids["input_ids"].shape[1] :].tolist()
    return new


def clean_up() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("port", type=int)
    arguments = parser.parse_args()
    uvicorn.run(build(arguments.folder), host="127.0.0.1", port=arguments.port, workers=1, log_level="warning")


if __name__ == "__main__":
    main()
