"""The rollout `star_hf`: verl's rollout server on transformers, for machines without a GPU.

agent loops ──generate──> Server (a Ray actor with its own copy of the model, batching what waits)
trainer ──TrainerSide.update_weights──> Server.load, in pieces of bounded size, after every update
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

import ray
import torch
from verl.workers.rollout.base import BaseRollout
from verl.workers.rollout.replica import RolloutReplica, TokenOutput
from verl.workers.rollout.utils import ensure_async_iterator

from star_jobs.grpo.verl.generation import Completion, Request, Style, generate

MAX_BATCH = 32
"""Sequences generated at once; more would cost memory and win little on a CPU."""
GATHER_SECONDS = 0.1
"""How long to wait for more requests once the first one is there: agent loops send theirs together."""
PIECE_BYTES = 128 * 2**20
"""Weights sent at once."""


def server_name(replica: int) -> str:
    """Return the Ray name of a replica's server."""
    return f"star_hf_server_{replica}"


class Server:
    """Holds the model that generates (as verl's replicas call it, by name)."""

    def __init__(self, model_path: str, response_length: int) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        # Ray gives an actor one thread; while this one generates, the trainer waits.
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))))
        self._model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(model_path)
        self._parameters: dict[str, torch.Tensor] = self._model.state_dict()
        self._response_length = response_length
        self._steps = 0
        self._waiting: asyncio.Queue[tuple[Request, Style, asyncio.Future[Completion]]] = asyncio.Queue()
        self._lock = asyncio.Lock()
        self._batcher: asyncio.Task[None] | None = None

    async def ready(self) -> bool:
        """Return once the model is loaded."""
        return True

    async def generate(
        self, prompt_ids: list[int], sampling_params: dict[str, Any], request_id: str, **_options: Any
    ) -> TokenOutput:
        """Continue one prompt (verl's rollout contract: tokens in, tokens out)."""
        if self._batcher is None:
            self._batcher = asyncio.create_task(self._batch_forever())
        limit = sampling_params.get("max_tokens") or sampling_params.get("max_new_tokens") or self._response_length
        request = Request(tuple(prompt_ids), int(limit), tuple(sampling_params.get("stop") or ()))
        style = Style(
            temperature=float(sampling_params.get("temperature", 1.0)),
            top_p=float(sampling_params.get("top_p", 1.0)),
            top_k=int(sampling_params.get("top_k", -1)),
            logprobs=bool(sampling_params.get("logprobs", False)),
        )
        answer: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        await self._waiting.put((request, style, answer))
        completion = await answer
        return TokenOutput(
            token_ids=completion.token_ids,
            log_probs=completion.log_probs,
            stop_reason="completed",
            extra_fields={"global_steps": self._steps},
        )

    async def load(self, piece: dict[str, torch.Tensor]) -> int:
        """Copy weights into the model; return how many. Raises KeyError for a name the model does not have."""
        async with self._lock:
            with torch.no_grad():
                for name, weight in piece.items():
                    self._parameters[name].copy_(weight)
        return len(piece)

    async def set_global_steps(self, steps: int) -> None:
        """Note which step the weights are of."""
        self._steps = steps

    async def _batch_forever(self) -> None:
        while True:
            first = await self._waiting.get()
            await asyncio.sleep(GATHER_SECONDS)
            batch = [first]
            others: list[tuple[Request, Style, asyncio.Future[Completion]]] = []
            while len(batch) < MAX_BATCH and not self._waiting.empty():
                entry = self._waiting.get_nowait()
                (batch if entry[1] == first[1] else others).append(entry)
            for entry in others:
                self._waiting.put_nowait(entry)
            async with self._lock:
                await self._answer(batch, first[1])

    async def _answer(self, batch: list[tuple[Request, Style, "asyncio.Future[Completion]"]], style: Style) -> None:
        requests = [request for request, _, _ in batch]
        try:
            found = await asyncio.to_thread(generate, self._model, self._tokenizer, requests, style)
        except Exception as error:
            for _, _, answer in batch:
                answer.set_exception(error)
            return
        for (_, _, answer), completion in zip(batch, found, strict=True):
            answer.set_result(completion)

    # Engines with a cache or device memory free and rebuild it around updates. There is none here.
    async def wake_up(self, **_options: Any) -> None:
        """Nothing sleeps."""

    async def sleep(self, **_options: Any) -> None:
        """Nothing to free."""

    async def abort_all_requests(self, **_options: Any) -> None:
        """Updates wait for running generations instead."""

    async def resume_generation(self, **_options: Any) -> None:
        """Nothing was aborted."""

    async def clear_kv_cache(self, **_options: Any) -> None:
        """A cache lives as long as its generation."""

    async def release_kv_cache(self, **_options: Any) -> None:
        """A cache lives as long as its generation."""

    async def resume_kv_cache(self, **_options: Any) -> None:
        """A cache lives as long as its generation."""


class TrainerSide(BaseRollout):  # type: ignore[misc] # verl is not typed
    """Lives in the trainer's worker and passes its weights on."""

    def __init__(self, config: Any, model_config: Any, device_mesh: Any, *_arguments: Any, **_options: Any) -> None:
        super().__init__(config, model_config, device_mesh)
        self._server: Any = None

    async def resume(self, tags: list[str]) -> None:
        """Nothing was released."""

    async def release(self) -> None:
        """Nothing to release."""

    async def update_weights(
        self, weights: Any, wire_format: str = "named_tensors", global_steps: int | None = None, **_options: Any
    ) -> None:
        """Send every tensor, in pieces, to the server; then the step they are of."""
        if wire_format != "named_tensors":
            raise ValueError(f"the rollout star_hf takes named tensors, not {wire_format}")
        if self._server is None:
            self._server = ray.get_actor(server_name(0))
        async for piece in _pieces(weights):
            await self._server.load.remote(piece)
        if global_steps is not None:
            await self._server.set_global_steps.remote(global_steps)


class Replica(RolloutReplica):  # type: ignore[misc] # verl is not typed
    """Starts the server."""

    async def launch_servers(self) -> None:
        """Start one server and wait until it has the model."""
        actor = ray.remote(Server).options(name=server_name(self.replica_rank), num_cpus=1, max_concurrency=256)
        server = actor.remote(str(self.model_config.path), int(self.config.response_length))
        await server.ready.remote()
        self.servers = [server]
        self._server_handle = server
        self._server_address = server_name(self.replica_rank)


async def _pieces(weights: Any) -> AsyncIterator[dict[str, torch.Tensor]]:
    """Group named tensors into dictionaries of about `PIECE_BYTES`."""
    piece: dict[str, torch.Tensor] = {}
    size = 0
    async with contextlib.aclosing(ensure_async_iterator(weights)) as stream:
        async for name, tensor in stream:
            whole = tensor.detach().to("cpu", torch.float32)
            piece[name] = whole
            size += whole.numel() * whole.element_size()
            if size >= PIECE_BYTES:
                yield piece
                piece, size = {}, 0
    if piece:
        yield piece
