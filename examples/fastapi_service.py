"""A service with FastAPI: one Cascade for the process, deadlines, feedback, and health for a load balancer.

Run it: ``uvicorn examples.fastapi_service:app``. It uses the policy file of CASCADE_POLICIES, or ./policies.yaml.
Without one, the packaged default answers the questions of the shipped recording.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel, Field

from cascade import BudgetError, Cascade, DeadlineError, JournalError, ProviderError, RunError


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Opens connections with the service, and writes the journal's last records when it stops."""
    async with Cascade() as service:
        app.state.cascade = service
        yield


app = FastAPI(lifespan=lifespan)


class Question(BaseModel):
    """What a client sends."""

    text: str = Field(min_length=1, max_length=20_000)
    deadline_s: Annotated[float, Field(gt=0, le=60)] = 20


class Reply(BaseModel):
    """What a client gets. ``needs_review`` answers go to a person instead of straight to the customer."""

    text: str
    needs_review: bool
    confidence: float
    run_id: str


class Feedback(BaseModel):
    """What somebody later found out about an answer."""

    run_id: str
    quality: Annotated[float, Field(ge=0, le=1)]


@app.post("/answer")
async def answer(question: Question, request: Request) -> Reply:
    """One run. Limits become 429 and 504, a failure of all providers 502."""
    service: Cascade = request.app.state.cascade
    try:
        result = await service.arun(question.text, deadline_s=question.deadline_s, tags={"route": "answer"})
    except BudgetError as error:
        raise HTTPException(429, str(error)) from error
    except DeadlineError as error:
        raise HTTPException(504, str(error)) from error
    except ProviderError as error:
        raise HTTPException(502, str(error)) from error
    except RunError as error:
        raise HTTPException(422, str(error)) from error
    return Reply(text=result.text, needs_review=not result.accepted, confidence=result.confidence, run_id=result.run_id)


@app.post("/feedback", status_code=204)
async def feedback(body: Feedback, request: Request) -> None:
    """Needs a journal in the policy file."""
    try:
        await request.app.state.cascade.afeedback(body.run_id, quality=body.quality)
    except JournalError as error:
        raise HTTPException(409, str(error)) from error


@app.get("/health")
async def health(request: Request) -> dict[str, Any]:
    """The circuit breaker of every model that was called so far."""
    models = request.app.state.cascade.health()
    return {"models": {name: model.state for name, model in models.items()}}
