"""policies.yaml as types: models, policies, tiers, judges. Unknown keys and wrong values are errors."""

import hashlib
import json
from typing import Literal

from pydantic import ConfigDict, Field, PrivateAttr, field_validator, model_validator

from cascade.util.suggestions import unknown

from .environment import holds_variable, masked
from .file_settings import CorsSpec, TagBudget, TelemetrySpec
from .journal_config import JournalSpec
from .model_spec import BreakerSpec, EmbeddingSpec, ModelSpec, PriceSpec, RetrySpec
from .predictor import embedding_mismatch
from .rollout import AppliedCalibration, CanarySpec
from .routes import Route, check_routes
from .state_spec import StateSpec
from .sticky import StickySpec
from .strict_model import Seconds, StrictModel, Usd
from .tier_spec import JudgeRule, TierPolicy
from .vote_spec import VoteSpec
from .watch_spec import DriftSpec, PromiseSpec, ShadowSpec, ShadowStratum, TaskRule, TasksSpec

__all__ = [
    "BreakerSpec",
    "CorsSpec",
    "DriftSpec",
    "EmbeddingSpec",
    "JudgeRule",
    "ModelSpec",
    "Policy",
    "PolicyFile",
    "PriceSpec",
    "PromiseSpec",
    "RetrySpec",
    "ShadowSpec",
    "ShadowStratum",
    "Stream",
    "TagBudget",
    "TaskRule",
    "TasksSpec",
    "TelemetrySpec",
    "TierPolicy",
]

Stream = Literal["held", "optimistic"]
Final = Literal["last", "best", "vote"]
"""Which answer is returned once the last tier was asked."""


class Policy(StrictModel):
    """A ladder of tiers, cheapest first, and the limits of a run."""

    tiers: list[TierPolicy] = Field(min_length=1)
    when_unsure: Literal["best", "abstain", "raise"] = Field(
        "best", description="Below the last threshold: best answer marked accepted=False, no answer, or UnsureError."
    )
    final: Final = Field(
        "last",
        description="Which answer counts once the last tier was asked: its own, the most confident of all, or by vote.",
    )
    vote: VoteSpec | None = Field(None, description="How answers are weighed where final is vote.")
    embedding: EmbeddingSpec | None = Field(
        None, description="The embedding of the prompt, for predictors that were fitted with one."
    )
    tasks: TasksSpec = Field(TasksSpec(), description="Which task a run belongs to.")
    routes: list[Route] | None = Field(None, description="At which tier runs begin; the first rule that matches counts.")
    calibration: str | None = Field(
        None, description="A calibration written by evals.replay, relative to this file, or 'starter': it sets the ladder."
    )
    on_judge_error: Literal["escalate", "ignore", "raise"] = "escalate"
    stream: Stream = Field(
        "held",
        description="Streamed text waits until its answer is accepted, or is sent at once and may be retracted.",
    )
    max_calls: int = Field(64, ge=1, description="Most answers that a run may ask for, samples and judges included.")
    max_samples: int | None = Field(None, ge=1, description="Most further samples that judges may request in a run.")
    budget_usd: Usd | None = Field(None, description="Most that a run may spend.")
    budget_usd_per_day: Usd | None = Field(None, description="Most that all runs of this policy may spend in a UTC day.")
    budget_usd_per_month: Usd | None = Field(None, description="Most that all runs of this policy may spend in a UTC month.")
    deadline_s: Seconds | None = None
    journal_text: bool = Field(False, description="Whether the journal keeps the text of prompts and answers.")

    shadow: ShadowSpec | None = Field(
        None, description="Which runs the other tiers answer, too, to see what quality is lost."
    )

    sticky: StickySpec | None = Field(
        None, description="Conversations begin their turns at the tier that they needed before."
    )

    promise: PromiseSpec | None = Field(None, description="What is watched of the loss against premium; needs shadow.")

    drift: DriftSpec | None = Field(
        None, description="Watches whether runs are still like those of the recording; needs calibration and a journal."
    )

    canary: CanarySpec | None = Field(None, description="Another calibration that a share of the runs tries; needs shadow.")

    _applied: AppliedCalibration | None = PrivateAttr(default=None)
    _candidate: "Policy | None" = PrivateAttr(default=None)

    @property
    def applied(self) -> AppliedCalibration | None:
        """The calibration file that was applied; None where there is none, or the file was read without them."""
        return self._applied if self.calibration is not None else None

    @property
    def candidate(self) -> "Policy | None":
        """The policy with the calibration of ``canary``; None where there is none."""
        return self._candidate if self.canary is not None else None

    def with_calibrations(self, *, applied: AppliedCalibration | None = None, candidate: "Policy | None" = None) -> "Policy":
        """A copy that knows which calibration was applied to it, and its candidate.

        Args:
            applied: The calibration; None: the one that the policy has.
            candidate: The policy with the canary's calibration; None: the one that the policy has.
        """
        copy = self.model_copy()
        copy._applied = self._applied if applied is None else applied
        copy._candidate = self._candidate if candidate is None else candidate
        return copy

    @model_validator(mode="after")
    def _shadows_known_tiers(self) -> "Policy":
        if self.canary is not None and self.shadow is None:
            raise ValueError("canary: needs shadow, whose labels compare the two calibrations")
        if self.promise is not None and self.shadow is None:
            raise ValueError("promise: needs shadow, whose labels show whether it is kept")
        if self.drift is not None and self.calibration is None:
            raise ValueError("drift: needs calibration, which says what runs looked like on the recording")
        tier_names = [tier.name for tier in self.tiers]
        for name in (self.shadow.tiers or ()) if self.shadow is not None else ():
            if name not in tier_names:
                raise ValueError(f"shadow.tiers: {unknown('tier', name, tier_names)}")
        return self

    @model_validator(mode="after")
    def _votes_where_asked(self) -> "Policy":
        if self.vote is not None and self.final != "vote":
            raise ValueError("vote: is read only with final: vote; add that, or leave it out")
        return self

    @model_validator(mode="after")
    def _embeds_as_fitted(self) -> "Policy":
        dimensions = None if self.embedding is None else self.embedding.dimensions
        for tier in self.tiers:
            fitted = None if tier.predictor is None else tier.predictor.get("embedding")
            if fitted is not None:
                # Whether the provider's name of the model is the right one, the policy file knows.
                model = None if self.embedding is None else fitted["model"]
                if problem := embedding_mismatch(fitted, model, dimensions):
                    raise ValueError(f"embedding: {problem}")
        return self

    @model_validator(mode="after")
    def _routes_to_tiers(self) -> "Policy":
        tier_names = [tier.name for tier in self.tiers]
        for i, route in enumerate(self.routes or ()):
            if route.start_at not in tier_names:
                raise ValueError(f"routes[{i}].start_at: {unknown('tier', route.start_at, tier_names)}")
        check_routes(self.routes or (), self.tasks.tag)
        return self

    @field_validator("tiers")
    @classmethod
    def _distinct(cls, tiers: list[TierPolicy]) -> list[TierPolicy]:
        seen: set[str] = set()
        for tier in tiers:
            if tier.name in seen:
                raise ValueError(f"two tiers are called {tier.name!r}; names must differ")
            seen.add(tier.name)
        if tiers[-1].skip_below is not None:
            raise ValueError(f"tier {tiers[-1].name!r}: skip_below: the last tier answers what no other accepts")
        if tiers[-1].speculate_below is not None:
            raise ValueError(f"tier {tiers[-1].name!r}: speculate_below: no tier follows the last one")
        if any(at == "skip" for at in (tiers[-1].accept_at_by_task or {}).values()):
            raise ValueError(f"tier {tiers[-1].name!r}: no task can skip the last tier, which answers what no other accepts")
        return tiers

    @property
    def model_names(self) -> set[str]:
        """Every model that a run may ask: those that answer, and that of the embedding where a predictor reads it."""
        embedding = {self.embedding.model} if self.embedding is not None and self.reads_embedding else set()
        return self.answering_models | embedding

    @property
    def answering_models(self) -> set[str]:
        """Every model that a run may ask for an answer: of tiers, their fallbacks, candidates and judges."""
        named = {t.model for t in self.tiers} | {m for t in self.tiers for m in t.fallbacks}
        named |= {m for t in self.tiers for m in t.fuse or ()}
        return named | {m for t in self.tiers for j in t.judges for m in j.model_names}

    @property
    def reads_embedding(self) -> bool:
        """Whether a tier's predictor reads the embedding of the prompt."""
        return any("embedding" in tier.predictor for tier in self.tiers if tier.predictor is not None)

    @property
    def hash(self) -> str:
        """Sixteen hex digits that change with any setting of the policy."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()[:16]

    @property
    def canonical(self) -> str:
        """The whole policy as JSON with sorted keys, of which ``hash`` is made.

        A judge's option that came from the environment is there as its variable, with a digest of its value.
        """
        # A canary's runs have a policy of their own; drift and grading change no run.
        settings = self.model_dump(mode="json", exclude={"canary": True, "drift": True, "shadow": {"grade"}})
        for name in ("shadow", "promise", "routes", "budget_usd_per_month", "sticky", "vote", "embedding"):
            if settings[name] is None:  # so that a policy that does not use it keeps its hash
                del settings[name]
        for tier, rules in zip(self.tiers, settings["tiers"], strict=True):
            for judge, rule in zip(tier.judges, rules["judges"], strict=True):
                if holds_variable(judge.options):
                    rule["options"] = masked(judge.options)
        return json.dumps(settings, sort_keys=True)


class PolicyFile(StrictModel):
    """The whole of policies.yaml."""

    model_config = ConfigDict(hide_input_in_errors=True)

    version: Literal[1] = 1
    imports: list[str] = Field(
        default_factory=list, description="Modules with judges of your own: files next to this one, or installed."
    )
    budget_usd_per_day: Usd | None = Field(None, description="Most that all policies together may spend in a UTC day.")
    budget_usd_per_month: Usd | None = Field(None, description="Most that all policies together may spend in a UTC month.")
    tag_budgets: dict[str, TagBudget] = Field(
        default_factory=dict, description="By the name of a tag, what the runs of each of its values may spend."
    )
    models: dict[str, ModelSpec] = Field(min_length=1)
    policies: dict[str, Policy] = Field(min_length=1)
    aliases: dict[str, str] = Field(
        default_factory=dict,
        description="Further names that clients of the gateway may send as a model, each for a policy or policy/tier.",
    )
    unknown_model: str = Field(
        "error", description="The policy of requests to the gateway that name an unknown model; 'error' refuses them."
    )
    cors: CorsSpec | None = Field(None, description="Which web pages may call the gateway; none where it is absent.")
    journal: JournalSpec | None = Field(None, description="Where a record of every run is kept; none where it is absent.")
    state: StateSpec | None = Field(
        None, description="Where budgets and key rates are shared; the journal where it is absent."
    )
    telemetry: TelemetrySpec | None = Field(None, description="Spans and metrics of runs; none where it is absent.")

    @model_validator(mode="after")
    def _state_has_a_place(self) -> "PolicyFile":
        journal = self.journal is not None and self.journal.durability != "off"
        if self.state is not None and self.state.url is None and self.state.url_env is None and not journal:
            raise ValueError("state: needs url or url_env where there is no journal")
        return self

    @model_validator(mode="after")
    def _models_exist(self) -> "PolicyFile":
        for name, policy in self.policies.items():
            if policy.shadow is not None and (self.journal is None or self.journal.durability == "off"):
                raise ValueError(f"policies.{name}.shadow: needs a journal, which records its requests; add the key journal")
            if policy.drift is not None and (self.journal is None or self.journal.durability == "off"):
                raise ValueError(f"policies.{name}.drift: needs a journal, whose runs it compares; add the key journal")
            self._embedding_exists(name, policy)
            for i, tier in enumerate(policy.tiers):
                where = f"policies.{name}.tiers[{i}]"
                if tier.model not in self.models:
                    raise ValueError(f"{where}.model: {unknown('model', tier.model, list(self.models))}")
                for other in tier.fallbacks:
                    if other not in self.models:
                        raise ValueError(f"{where}.fallbacks: {unknown('model', other, list(self.models))}")
                for other in tier.fuse or ():
                    if other not in self.models:
                        raise ValueError(f"{where}.fuse: {unknown('model', other, list(self.models))}")
                for rule in tier.judges:
                    for model in rule.model_names:
                        if model not in self.models:
                            raise ValueError(f"{where}.judges: {unknown('model', model, list(self.models))}")
        return self

    def _embedding_exists(self, name: str, policy: Policy) -> None:
        spec = policy.embedding
        if spec is not None:
            where = f"policies.{name}.embedding.model"
            if spec.model not in self.models:
                raise ValueError(f"{where}: {unknown('model', spec.model, list(self.models))}")
            if self.models[spec.model].provider != "openai":
                raise ValueError(f"{where}: {spec.model!r} must have provider openai, whose servers have /embeddings")
        if problem := self.embedding_problem(policy):
            raise ValueError(f"policies.{name}.embedding: {problem}")

    def embedding_problem(self, policy: Policy) -> str | None:
        """Why the embedding of a policy is not the one that its predictors were fitted with; None where it is."""
        spec = policy.embedding
        model = None if spec is None else self.models[spec.model].model or spec.model
        fitted = (tier.predictor["embedding"] for tier in policy.tiers if tier.predictor and "embedding" in tier.predictor)
        problems = (embedding_mismatch(one, model, None if spec is None else spec.dimensions) for one in fitted)
        return next(filter(None, problems), None)

    @model_validator(mode="after")
    def _names_exist(self) -> "PolicyFile":
        names = [*self.policies, *(f"{name}/{tier.name}" for name, policy in self.policies.items() for tier in policy.tiers)]
        for alias, target in self.aliases.items():
            if alias in names:
                raise ValueError(f"aliases.{alias}: a policy or a tier has this name already")
            if target not in names:
                raise ValueError(f"aliases.{alias}: {unknown('policy', target, names)}")
        if self.unknown_model != "error" and self.unknown_model not in names:
            raise ValueError(f"unknown_model: 'error', or a policy: {unknown('policy', self.unknown_model, names)}")
        return self
