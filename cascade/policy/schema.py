"""policies.yaml as types: models, policies, tiers, judges. Unknown keys and wrong values are errors."""

import hashlib
import json
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationInfo, field_validator, model_validator

import judges
from cascade.util.http_settings import MAX_BODY_BYTES, check_address, check_path
from cascade.util.suggestions import nearest, unknown

from .calibrators import from_json
from .environment import hide, holds_variable, masked
from .journal_config import JournalSpec
from .predictor import from_json as predictor_from_json
from .rollout import AppliedCalibration, CanarySpec
from .routes import Route, check_routes
from .thresholds import Thresholds

Probability = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Usd = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Stream = Literal["held", "optimistic"]
Share = Annotated[float, Field(gt=0.0, le=1.0, allow_inf_nan=False)]
Pause = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    def __repr__(self) -> str:
        return hide(super().__repr__())

    def __str__(self) -> str:
        return hide(super().__str__())


class PriceSpec(_Strict):
    """USD per million tokens, in place of the published list price."""

    input_per_mtok: Usd
    output_per_mtok: Usd
    cached_input_per_mtok: Usd | None = None
    cache_write_per_mtok: Usd | None = None
    cache_write_1h_per_mtok: Usd | None = Field(
        None, description="Writes that are kept for an hour. Default: 1.6 times cache_write_per_mtok."
    )


class RetrySpec(_Strict):
    """When a failed request is retried; see ``cascade.resilience.guard.Retry``."""

    attempts: int = Field(default=3, ge=1, le=20, description="Requests for one answer at most, the first included.")
    initial_backoff_s: Pause = Field(default=0.25, description="The longest first pause between requests.")
    max_backoff_s: Pause = Field(default=8.0, description="The longest pause between requests.")
    retry_after_s: Pause = Field(
        default=30.0, description="The longest wait that the provider may ask for; a longer one is final."
    )


class BreakerSpec(_Strict):
    """When requests to a model that keeps failing stop; see ``cascade.resilience.breaker.BreakerRule``."""

    min_requests: int = Field(default=20, ge=1)
    failure_rate: float = Field(default=0.5, gt=0.0, le=1.0)
    window_s: Seconds = 30.0
    cooldown_s: Seconds = Field(default=10.0, description="How long no request is sent once the breaker has opened.")


class ModelSpec(_Strict):
    """A model and how to reach it. Keys are never in the file: ``api_key_env`` names an environment variable."""

    model_config = ConfigDict(hide_input_in_errors=True)  # headers may hold keys all the same

    provider: Literal["openai", "anthropic", "recorded", "scripted"]
    model: str | None = Field(None, description="The provider's name of the model (default: the name in this file).")
    base_url: str | None = Field(None, description="Any OpenAI-compatible or Anthropic-compatible server.")
    api_key_env: str | None = Field(None, description="Default: OPENAI_API_KEY or ANTHROPIC_API_KEY.")
    api_key_file: str | None = Field(
        None, min_length=1, description="A file with the key, read again when it changes; relative to this file."
    )
    headers: dict[str, str] = Field(default_factory=dict, repr=False, description="Further HTTP headers.")
    price: PriceSpec | None = None
    cost_from_provider: bool = Field(False, description="An answer costs what the provider says in usage.cost, if it does.")
    max_tokens: int | None = Field(None, ge=1)
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = Field(
        None, description="openai: the field's name in requests. Default: max_completion_tokens at OpenAI and Azure."
    )
    image_tokens: int = Field(5000, ge=0, description="Most tokens that an image counts, for budgets.")
    temperature: float | None = Field(None, ge=0.0, le=2.0)
    timeout_s: Seconds = 60.0
    max_body_bytes: int = Field(MAX_BODY_BYTES, ge=1024, description="A longer response is a fault of the provider.")
    retry: RetrySpec = Field(default_factory=RetrySpec)
    breaker: BreakerSpec | None = Field(default_factory=BreakerSpec, description="'off' for none.")
    max_concurrency: int | None = Field(None, ge=1, description="Most requests under way at once.")
    requests_per_s: float | None = Field(None, gt=0.0, allow_inf_nan=False, description="Most requests begun in a second.")
    hedge: bool = Field(False, description="Ask a second time where an answer takes longer than the 95th percentile.")
    logprobs: bool = Field(False, description="Ask for the token log-probabilities that the logprob judge reads.")
    n: bool = Field(True, description="openai: the server can give several samples in one request.")
    structured: Literal["json_schema", "json_object", "off"] = "json_schema"
    options: dict[str, Any] = Field(default_factory=dict, description="Further request parameters, passed through.")
    recording: str | None = Field(None, description="recorded: a recording's path, or 'starter' for the shipped one.")
    answers: list[str] = Field(default_factory=list, description="scripted: the answers, given in turn.")

    @field_validator("breaker", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        return None if value is False or value == "off" else value  # YAML reads a bare off as false

    @field_validator("base_url")
    @classmethod
    def _plain_address(cls, url: str | None, info: ValidationInfo) -> str | None:
        if url is None:
            return None
        # Anywhere: a password with a slash in it would otherwise be taken for a path.
        if "@" in url:
            raise ValueError("base_url must not hold a user or password; name the key's variable in api_key_env")
        check_address(url)
        check_path(url, info.data.get("provider", "openai"))
        return url

    @field_validator("api_key_env")
    @classmethod
    def _a_name(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError("api_key_env must be the name of an environment variable, never the key itself")
        return name

    @field_validator("headers")
    @classmethod
    def _sendable(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if not re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", name, re.ASCII):
                raise ValueError("headers: a name is not one that HTTP allows")
            if not (value.isprintable() and value.isascii()):
                raise ValueError(f"headers: the value of {name} must be printable ASCII")
        return headers

    @model_validator(mode="after")
    def _complete(self) -> "ModelSpec":
        if self.provider == "recorded" and self.recording is None:
            raise ValueError("provider 'recorded' needs 'recording': a path, or 'starter'")
        if self.api_key_env is not None and self.api_key_file is not None:
            raise ValueError("api_key_env and api_key_file: give just one of the two")
        if self.provider == "scripted" and not self.answers:
            raise ValueError("provider 'scripted' needs 'answers': a list with at least one text")
        return self


class JudgeRule(_Strict):
    """One judge of a tier. Keys other than these are the judge's own options."""

    use: str
    accept_at: Probability | None = Field(None, description="Accept at once, without the dearer judges, from here on.")
    reject_below: Probability | None = Field(None, description="Escalate at once, without the dearer judges, below this.")
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _spread(cls, value: Any) -> Any:
        """A bare name, or a mapping whose further keys are the judge's options."""
        if isinstance(value, str):
            return {"use": value}
        if isinstance(value, dict):
            own = {k: v for k, v in value.items() if k in cls.model_fields}
            rest = {k: v for k, v in value.items() if k not in cls.model_fields}
            if rest and isinstance(own.get("options", {}), dict):
                own["options"] = {**own.get("options", {}), **rest}
            return own
        return value

    @model_validator(mode="after")
    def _known(self) -> "JudgeRule":
        if self.accept_at is not None and self.reject_below is not None and self.reject_below > self.accept_at:
            raise ValueError(f"reject_below ({self.reject_below}) is above accept_at ({self.accept_at})")
        try:
            judges.make(self.use, **self.options)
        except LookupError:
            raise ValueError(unknown("judge", self.use, judges.names())) from None
        except TypeError as error:
            raise ValueError(_wrong_option(self.use, error)) from None
        return self

    @property
    def model_names(self) -> tuple[str, ...]:
        """The models of the policy file that this judge may ask, apart from the tier's own."""
        named = [self.options.get("model")]
        if self.use == "consensus":
            named += [*self.options["models"], self.options.get("verifier")]
        return tuple(name for name in named if isinstance(name, str))


class TierPolicy(_Strict):
    """One step of the ladder: a model, the judges of its answer (cheapest first), and the confidence that suffices."""

    name: str = ""
    model: str
    fallbacks: list[str] = Field(default_factory=list, description="Models asked in turn where the tier's own fails.")
    accept_at: Probability = Field(0.7, description="Accept the answer from this confidence on; 0 accepts all.")
    prior: Probability = Field(0.5, description="The confidence where no judge could tell.")
    accept_at_by_task: dict[str, Probability | Literal["skip"]] | None = Field(
        None, description="accept_at of the runs of a task; 'skip': its runs do not ask the tier. Written by a calibration."
    )
    judges: list[JudgeRule] = Field(default_factory=list)
    confidence: list[dict[str, Any]] | None = Field(
        None, description="Fitted mappings to P(correct), one for each judge prefix; written by a calibration."
    )
    predictor: dict[str, Any] | None = Field(
        None, description="P(the tier is right) by the prompt alone, with hashed words; written by a calibration."
    )
    skip_below: Probability | None = Field(
        None, description="The tier is not asked where the predictor's probability is below it; written by a calibration."
    )

    @field_validator("confidence")
    @classmethod
    def _mappings(cls, mappings: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
        for i, mapping in enumerate(mappings or ()):
            try:
                from_json(mapping)
            except ValueError as error:
                raise ValueError(f"mapping {i}: {error}") from None
        return mappings

    @model_validator(mode="after")
    def _others_in_consensus(self) -> "TierPolicy":
        for rule in self.judges:
            if rule.use == "consensus" and self.model in rule.options["models"]:
                raise ValueError(
                    f"judges: consensus asks {self.model!r}, which is the tier's own model; name other models, or use "
                    "self_consistency for further answers of one"
                )
        return self

    @field_validator("predictor")
    @classmethod
    def _a_predictor(cls, data: dict[str, Any] | None) -> dict[str, Any] | None:
        if data is not None:
            predictor_from_json(data)
        return data

    @model_validator(mode="after")
    def _with_a_predictor(self) -> "TierPolicy":
        if self.predictor is None:
            if self.skip_below is not None:
                raise ValueError("skip_below: needs a predictor, which a calibration writes: python -m evals.replay")
            if any(from_json(mapping).reads_prompt for mapping in self.confidence or ()):
                raise ValueError("confidence: a mapping reads the prompt, but the tier has no predictor")
        return self

    @model_validator(mode="after")
    def _a_mapping_each(self) -> "TierPolicy":
        if self.confidence is not None and len(self.confidence) != len(self.judges) + 1:
            n = len(self.judges)
            raise ValueError(f"confidence: {n} judges need {n + 1} mappings, got {len(self.confidence)}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, dict) and "name" not in value and isinstance(value.get("model"), str):
            return {**value, "name": value["model"]}
        return value

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds of this tier, as ``decide`` needs them."""
        return Thresholds(
            self.accept_at,
            tuple(j.accept_at for j in self.judges),
            tuple(j.reject_below for j in self.judges),
            self.skip_below,
        )


class ShadowStratum(_Strict):
    """Runs with certain tags, which have a share of their own."""

    tags: dict[str, str | int | float | bool] = Field(min_length=1, description="What a run's tags must hold.")
    share: Share = Field(description="In place of the policy's share.")


class ShadowSpec(_Strict):
    """A random sample of runs, for which the tiers that were not asked are asked in the background."""

    share: Share = Field(description="The probability that a run is sampled, where its confidence was at the threshold.")
    floor: Share | None = Field(None, description="The smallest probability of any run, however sure. Default: share.")
    strata: list[ShadowStratum] = Field(
        default_factory=list, description="Kinds of runs with a share of their own; the first that fits counts."
    )
    tiers: list[str] | None = Field(None, min_length=1, description="Which tiers a sampled run must have. Default: all.")
    budget_usd_per_day: Usd = Field(description="Most that the policy's shadow requests may cost in a UTC day.")
    max_per_minute: int = Field(30, ge=1, description="Most shadow requests that begin in any minute.")
    text: bool = Field(
        False, description="Whether the journal keeps the prompts and answers of sampled runs, to grade them."
    )

    @property
    def least_share(self) -> float:
        """The smallest probability of any run."""
        return self.share if self.floor is None else self.floor

    @model_validator(mode="after")
    def _floor_is_least(self) -> "ShadowSpec":
        shares = [self.share, *(stratum.share for stratum in self.strata)]
        if self.least_share > min(shares):
            raise ValueError(f"floor ({self.least_share:g}) is above the share {min(shares):g}; set floor at most to that")
        return self


class PromiseSpec(_Strict):
    """What is promised of the mean quality, watched by the labels of shadowed runs, and what to do once it is broken."""

    max_loss: float | None = Field(
        None,
        gt=0.0,
        lt=1.0,
        description="The largest mean loss against premium. Default: that of the calibration's certificate.",
    )
    delta: float = Field(0.1, gt=0.0, lt=1.0, description="The probability of ever calling a promise broken that is kept.")
    on_broken: Literal["warn", "escalate_more", "premium"] = Field(
        "warn", description="Once it is broken: only report it, raise every threshold half-way to 1, or ask premium alone."
    )
    webhook_env: str | None = Field(
        None, min_length=1, description="The environment variable with the URL to which each change is posted as JSON."
    )


class TaskRule(_Strict):
    """A task that prompts show by their text."""

    task: str = Field(min_length=1)
    pattern: str = Field(min_length=1, max_length=1000, description="A regular expression that the prompt contains.")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return pattern


class TasksSpec(_Strict):
    """Which task a run belongs to, for thresholds by task."""

    tag: str = Field(default="task", min_length=1, description="The tag of a run that names its task.")
    rules: list[TaskRule] = Field(default_factory=list, description="Without the tag: the first whose pattern matches.")


class Policy(_Strict):
    """A ladder of tiers, cheapest first, and the limits of a run."""

    tiers: list[TierPolicy] = Field(min_length=1)
    when_unsure: Literal["best", "abstain", "raise"] = Field(
        "best", description="Below the last threshold: best answer marked accepted=False, no answer, or UnsureError."
    )
    final: Literal["last", "best"] = Field(
        "last", description="Which answer counts once the last tier was asked: its own, or the most confident of all."
    )
    tasks: TasksSpec = Field(TasksSpec(), description="Which task a run belongs to.")
    routes: list[Route] | None = Field(None, description="At which tier runs begin; the first rule that matches counts.")
    calibration: str | None = Field(
        None, description="A calibration written by evals.replay, relative to this file, or 'starter': it sets the ladder."
    )
    on_judge_error: Literal["escalate", "ignore", "raise"] = "escalate"
    stream: Stream = Field(
        "held",
        description="Streamed text waits until its answer is accepted, or flows at once and may be retracted.",
    )
    max_calls: int = Field(64, ge=1, description="Most answers that a run may ask for, samples and judges included.")
    max_samples: int | None = Field(None, ge=1, description="Most further samples that judges may draw in a run.")
    budget_usd: Usd | None = Field(None, description="Most that a run may spend.")
    budget_usd_per_day: Usd | None = Field(None, description="Most that all runs of this policy may spend in a UTC day.")
    budget_usd_per_month: Usd | None = Field(None, description="Most that all runs of this policy may spend in a UTC month.")
    deadline_s: Seconds | None = None
    journal_text: bool = Field(False, description="Whether the journal keeps the text of prompts and answers.")

    shadow: ShadowSpec | None = Field(
        None, description="Which runs the other tiers answer, too, to see what quality is lost."
    )

    promise: PromiseSpec | None = Field(None, description="What is watched of the loss against premium; needs shadow.")

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
        """A copy that knows which calibration was applied to it, and its candidate."""
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
        known = [tier.name for tier in self.tiers]
        for name in (self.shadow.tiers or ()) if self.shadow is not None else ():
            if name not in known:
                raise ValueError(f"shadow.tiers: {unknown('tier', name, known)}")
        return self

    @model_validator(mode="after")
    def _routes_to_tiers(self) -> "Policy":
        known = [tier.name for tier in self.tiers]
        for i, route in enumerate(self.routes or ()):
            if route.start_at not in known:
                raise ValueError(f"routes[{i}].start_at: {unknown('tier', route.start_at, known)}")
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
        if any(at == "skip" for at in (tiers[-1].accept_at_by_task or {}).values()):
            raise ValueError(f"tier {tiers[-1].name!r}: no task can skip the last tier, which answers what no other accepts")
        return tiers

    @property
    def model_names(self) -> set[str]:
        """Every model that a run may ask: of tiers, their fallbacks and their judges."""
        named = {t.model for t in self.tiers} | {m for t in self.tiers for m in t.fallbacks}
        return named | {m for t in self.tiers for j in t.judges for m in j.model_names}

    @property
    def hash(self) -> str:
        """Sixteen hex digits that change with any setting of the policy."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()[:16]

    @property
    def canonical(self) -> str:
        """The whole policy as JSON with sorted keys, of which ``hash`` is made.

        A judge's option that came from the environment is there as its variable, with a digest of its value.
        """
        settings = self.model_dump(mode="json", exclude={"canary"})  # whose runs have a policy of their own
        for name in ("shadow", "promise", "routes", "budget_usd_per_month"):
            if settings[name] is None:  # so that a policy that does not use it keeps its hash
                del settings[name]
        for tier in settings["tiers"]:
            for name in ("predictor", "skip_below"):
                if tier[name] is None:
                    del tier[name]
        for tier, rules in zip(self.tiers, settings["tiers"], strict=True):
            for judge, rule in zip(tier.judges, rules["judges"], strict=True):
                if holds_variable(judge.options):
                    rule["options"] = masked(judge.options)
        return json.dumps(settings, sort_keys=True)


class TelemetrySpec(_Strict):
    """Which telemetry runs emit; none by default."""

    traces: bool = Field(False, description="OpenTelemetry spans; needs the extra 'otel'.")
    metrics: bool = Field(False, description="Prometheus metrics; needs the extra 'metrics'.")
    content: bool = Field(False, description="Spans hold the texts of prompts, answers, verdicts and faults, too.")

    @model_validator(mode="after")
    def _content_of_traces(self) -> "TelemetrySpec":
        if self.content and not self.traces:
            raise ValueError("content: true needs traces: true; metrics hold no texts")
        return self


class CorsSpec(_Strict):
    """Which web pages may call the gateway from a browser."""

    allow_origins: list[str] = Field(min_length=1, description="Origins such as https://app.example.com; '*' for any.")
    allow_credentials: bool = Field(False, description="Whether a browser sends cookies and client certificates along.")
    max_age_s: int = Field(600, ge=0, le=86_400, description="How long a browser keeps the answer to its preflight request.")

    @field_validator("allow_origins")
    @classmethod
    def _origins(cls, origins: list[str]) -> list[str]:
        for origin in origins:
            if origin != "*" and not re.fullmatch(r"https?://[^/\s@?#*]+", origin):
                raise ValueError(f"{origin!r} is no origin; write a scheme and a host, such as https://app.example.com")
        return [origin.lower() for origin in origins]

    @model_validator(mode="after")
    def _safe(self) -> "CorsSpec":
        if self.allow_credentials and "*" in self.allow_origins:
            raise ValueError("allow_credentials: true needs a list of origins: browsers refuse it for '*'")
        return self


class TagBudget(_Strict):
    """What all runs with the same value of a tag may spend, whatever their policy."""

    usd_per_day: Usd | None = Field(None, description="In a UTC day.")
    usd_per_month: Usd | None = Field(None, description="In a UTC month.")

    @model_validator(mode="after")
    def _some(self) -> "TagBudget":
        if self.usd_per_day is None and self.usd_per_month is None:
            raise ValueError("needs usd_per_day, usd_per_month or both")
        return self


class PolicyFile(_Strict):
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
    telemetry: TelemetrySpec | None = Field(None, description="Spans and metrics of runs; none where it is absent.")

    @model_validator(mode="after")
    def _models_exist(self) -> "PolicyFile":
        for name, policy in self.policies.items():
            if policy.shadow is not None and (self.journal is None or self.journal.durability == "off"):
                raise ValueError(f"policies.{name}.shadow: needs a journal, which keeps its books; add the key journal")
            for i, tier in enumerate(policy.tiers):
                where = f"policies.{name}.tiers[{i}]"
                if tier.model not in self.models:
                    raise ValueError(f"{where}.model: {unknown('model', tier.model, list(self.models))}")
                for other in tier.fallbacks:
                    if other not in self.models:
                        raise ValueError(f"{where}.fallbacks: {unknown('model', other, list(self.models))}")
                for rule in tier.judges:
                    for model in rule.model_names:
                        if model not in self.models:
                            raise ValueError(f"{where}.judges: {unknown('model', model, list(self.models))}")
        return self

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


def _wrong_option(judge: str, error: TypeError) -> str:
    import inspect
    import re

    from judges.registry import factory

    match = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if match is None:
        return f"judge {judge!r}: {error}"
    options = [p for p in inspect.signature(factory(judge)).parameters if p not in ("name", "only_vetoes")]
    return f"judge {judge!r} has no option {match[1]!r}{nearest(match[1], options)}; it takes: {', '.join(options)}"
