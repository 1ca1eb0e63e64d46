"""The refusals the simulated exchange can give: code, HTTP status and message.

Statuses and messages are OKX's published error table [doc] except where a comment says otherwise.
Codes of the 50xxx class come from the gateway and have no ``data`` member [doc].
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from reconciler.simulator.http_messages import ReplyEnvelope, SimRow


@dataclass(frozen=True, slots=True)
class CodeRefusal:
    """One row of the table; ``{0}`` and ``{1}`` in ``message`` are filled in by the check."""

    status: int
    message: str


REFUSALS: dict[str, CodeRefusal] = {
    "404": CodeRefusal(404, "Not Found"),  # assumed: an unknown path is in no table
    "50000": CodeRefusal(400, "Body for POST request cannot be empty."),
    "50001": CodeRefusal(503, "Service temporarily unavailable. Please try again later."),
    "50002": CodeRefusal(400, "JSON syntax error"),
    "50004": CodeRefusal(
        400,
        "API endpoint request timeout. (does not mean that the request was successful or failed,"
        " please check the request result).",
    ),
    "50005": CodeRefusal(410, "API endpoint is inactive or unavailable."),
    "50006": CodeRefusal(400, 'Invalid Content-Type. Please use "application/JSON".'),
    "50011": CodeRefusal(
        200, "Rate limit reached. Please refer to API documentation and throttle requests."
    ),
    "50013": CodeRefusal(429, "Systems are busy. Please try again later."),
    "50014": CodeRefusal(400, "Parameter {0} can not be empty."),
    "50026": CodeRefusal(500, "System error. Try again later"),
    "50030": CodeRefusal(200, "You don't have permission to use this API endpoint"),
    "50100": CodeRefusal(400, "API frozen, please contact customer service."),
    "50101": CodeRefusal(401, "APIKey does not match current environment."),
    "50102": CodeRefusal(401, "Timestamp request expired."),
    "50103": CodeRefusal(401, 'Request header "OK-ACCESS-KEY" cannot be empty.'),
    "50104": CodeRefusal(401, 'Request header "OK-ACCESS-PASSPHRASE" cannot be empty.'),
    "50105": CodeRefusal(401, 'Request header "OK-ACCESS-PASSPHRASE" incorrect.'),
    "50106": CodeRefusal(401, 'Request header "OK-ACCESS-SIGN" cannot be empty.'),
    "50107": CodeRefusal(401, 'Request header "OK-ACCESS-TIMESTAMP" cannot be empty.'),
    # The key id in the message is [doc] in the facts; clients must not repeat it.
    "50110": CodeRefusal(401, "Your IP {0} is not included in your API key's {1} IP whitelist."),
    "50112": CodeRefusal(401, "Invalid OK-ACCESS-TIMESTAMP."),
    "50113": CodeRefusal(401, "Invalid signature."),
    "50115": CodeRefusal(405, "Invalid request method."),
    "50119": CodeRefusal(401, "API key doesn't exist"),  # documented as 200, [seen] as 401
    "50120": CodeRefusal(401, "This API key doesn't have permission to use this function"),  # likewise
    "51000": CodeRefusal(400, "Parameter {0} error"),
    "51001": CodeRefusal(200, "Instrument ID, Instrument ID code or Spread ID doesn't exist."),
    "51010": CodeRefusal(200, "You can't complete this request under your current account mode."),
    # The code is [doc]; its text here is ours.
    "59509": CodeRefusal(200, "You don't have permission to reset MMP status."),
}

SCRIPTED = CodeRefusal(200, "Refused by script")
"""The message of a code without a row: any code can be scripted."""


def refuse(code: str, *params: str, status: int | None = None) -> ReplyEnvelope:
    """Return the refusal ``code``; ``status`` overrides the table's HTTP status."""
    row = REFUSALS.get(code, SCRIPTED)
    data = None if code.startswith("50") else ()
    return ReplyEnvelope(code, row.message.format(*params), data, status or row.status)


def wrap(code: str, row_code: str, rows: Iterable[SimRow]) -> ReplyEnvelope:
    """Return a refusal in OKX's wrapper: envelope ``code``, the real one in each row's sCode [seen]."""
    message = REFUSALS.get(row_code, SCRIPTED).message.format("(scripted)", "(scripted)")
    wrapped = tuple({**row, "sCode": row_code, "sMsg": message} for row in rows)
    return ReplyEnvelope(code, "All operations failed" if code != "0" else "", wrapped)
