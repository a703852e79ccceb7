"""A checkpoint with a report and its proof in a store in memory, to look at and to tamper with."""

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from star_contracts.artifact import ArtifactKind, ArtifactRef, Producer
from star_contracts.base import value_hash
from star_contracts.errors import JobWarning
from star_contracts.job import Store
from star_contracts.proofs import (
    AttestSpec,
    BoundVerdict,
    MadeBy,
    Measured,
    PublicKey,
    SignatureRule,
    VerifySpec,
    proof_uri,
)
from star_contracts.result import JobResult
from star_contracts.settings import EvaluationSettings
from star_jobs.proofs.attest import run_attest
from star_jobs.proofs.keys import Private
from star_jobs.proofs.verify import run_verify
from star_jobs.storage.artifacts import ArtifactWriter
from tests.support.memorystore import MemoryStore, Objects

ROOT = "s3://star/team"
DATA, SIGNALS = "sha256:" + "d" * 64, "sha256:" + "e" * 64
METRICS = {"hrAvg": 0.42, "hrAvgCiLow": 0.36, "hrAvgCiHigh": 0.48, "random.hrAvg": 0.15, "tasks": 300.0, "valid": 1.0}


def new_key() -> Private:
    return ec.generate_private_key(ec.SECP256R1())


def public_pem(key: Private) -> str:
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, spki).decode()


def private_pem(key: Private, password: bytes | None = None) -> bytes:
    how: Any = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


class Proven:
    """The store, and what lies in it."""

    def __init__(self, folder: Path, key: Private | None = None) -> None:
        self.objects = Objects()
        self.store = MemoryStore(self.objects)
        self.key_file = folder / "signing.key"
        self.key = key if key is not None else new_key()
        self.dataset = self.put("recdataset/d/1/prepare", ArtifactKind.DATASET, {"items.jsonl": b"{}\n"}, {})
        weights = {"model.safetensors": b"weights", "config.json": b"{}"}
        made_of = {"dataset": self.dataset.digest, "model": "sha256:" + "0" * 64}
        self.checkpoint = self.put("sftjob/student/1/train", ArtifactKind.CHECKPOINT, weights, made_of, {"loss": 0.5})
        self.settings = EvaluationSettings(tools=False)
        self.report = self.put_report(self.checkpoint.digest)

    def put(
        self,
        place: str,
        kind: ArtifactKind,
        files: Mapping[str, bytes],
        inputs: Mapping[str, str],
        metrics: Mapping[str, float] | None = None,
        warnings: tuple[JobWarning, ...] = (),
    ) -> ArtifactRef:
        """Write an artifact."""
        writer = ArtifactWriter(self.store, f"{ROOT}/{place}")
        for name, data in files.items():
            writer.add_bytes(data, name)
        maker, name, _, step = place.split("/")
        image = "registry.example/trainer@sha256:" + "9" * 64
        producer = Producer(
            kind=maker, namespace="team", name=name, uid="u", step=step, work_hash=value_hash(place), image=image
        )
        manifest = writer.commit(kind, producer, inputs, metrics or {}, warnings)
        return ArtifactRef(uri=f"{ROOT}/{place}", digest=manifest.digest())

    def put_report(self, measured: str, place: str = "evaluation/test/1/evaluate") -> ArtifactRef:
        """Write a report on the checkpoint of a digest."""
        content = json.dumps({"settings": self.settings.to_json_dict()}).encode()
        inputs = {"llm": measured, "dataset": self.dataset.digest}
        return self.put(place, ArtifactKind.REPORT, {"report.json": content}, inputs, METRICS)

    def attest_spec(self, *, facts: str = "first", signed: bool = True, **more: Any) -> AttestSpec:
        """What the operator would have asked for."""
        if signed:
            self.key_file.write_bytes(private_pem(self.key))
        digest = value_hash(facts)
        maker = MadeBy(
            kind="SFTJob",
            name="student",
            uid="u",
            parameters={"hyperparameters": {"seed": 42, "learningRate": 1e-5}},
            artifact=self.checkpoint,
            started="2026-05-01T10:00:00Z",
            finished="2026-05-01T11:00:00Z",
            images={"train": "registry.example/trainer@sha256:" + "9" * 64},
        )
        data = MadeBy(kind="RecDataset", name="d", uid="v", artifact=self.dataset)
        values: dict[str, Any] = {
            "made_by": (maker, data),
            "measured": (Measured(evaluation="test", report=self.report),),
            "key_file": str(self.key_file) if signed else None,
        }
        return AttestSpec(
            store=Store(),
            facts=digest,
            output=proof_uri(self.checkpoint.uri, digest),
            namespace="team",
            name="student",
            uid="c",
            checkpoint=self.checkpoint,
            builder="https://star.recsys.dev/operator",
            **(values | more),
        )

    def attest(self, **spec: Any) -> JobResult:
        return run_attest(self.attest_spec(**spec), self.store, threading.Event())

    def verdict(self, **more: Any) -> BoundVerdict:
        """The verdict as an Evaluation's status has it."""
        values: dict[str, Any] = {
            "report": self.report,
            "measured": {"llm": self.checkpoint.digest, "dataset": self.dataset.digest},
            "settings": self.settings,
            "metrics": METRICS,
        }
        return BoundVerdict(evaluation="test", **(values | more))

    def rule(self, *keys: Private, threshold: int = 1) -> SignatureRule:
        named = (PublicKey(name=f"key{n}", pem=public_pem(key)) for n, key in enumerate(keys or (self.key,)))
        return SignatureRule(keys=tuple(named), threshold=threshold)

    def verify(self, rule: SignatureRule | None = None, verdict: BoundVerdict | None = None) -> JobResult:
        spec = VerifySpec(store=Store(), checkpoint=self.checkpoint, signatures=rule, verdict=verdict)
        return run_verify(spec, self.store, threading.Event())

    def tamper(self, uri: str, old: bytes, new: bytes) -> None:
        """Change an object of the store."""
        data = self.objects[uri][0]
        assert old in data
        self.objects.write(uri, data.replace(old, new))

    def json(self, uri: str) -> Any:
        return json.loads(self.objects[uri][0])
