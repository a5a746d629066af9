"""The endpoint: verify with Stripe's SDK, hand the event to Celery, answer.

python -m bench.afternoon.web PORT
"""

from __future__ import annotations

import json
import os
import sys

import stripe
import uvicorn
from bench.afternoon.tasks import handle
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


async def hook(request: Request) -> Response:
    body = await request.body()
    try:
        stripe.Webhook.construct_event(body, request.headers["stripe-signature"], os.environ["AFTERNOON_SECRET"])
    except (ValueError, KeyError, stripe.SignatureVerificationError):
        return JSONResponse({"error": "bad request"}, status_code=400)
    handle.delay(json.loads(body))  # cheaper than the SDK object's to_dict()
    return JSONResponse({"received": True})


app = Starlette(routes=[Route("/hooks/stripe", hook, methods=["POST"])])


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
