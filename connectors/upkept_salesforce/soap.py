"""Outbound messages: SOAP 1.1, up to 100 notifications in one, acknowledged as a whole.

The envelope is parsed with DTDs, entities and external references refused. What a message says is cut to what we need
before anything is stored: its `SessionId`, if the operator left that switched on, is the key to the org.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

SOAP: Final = "{http://schemas.xmlsoap.org/soap/envelope/}"
OUTBOUND: Final = "{http://soap.sforce.com/2005/09/outbound}"
TYPE: Final = "{http://www.w3.org/2001/XMLSchema-instance}type"
NIL: Final = "{http://www.w3.org/2001/XMLSchema-instance}nil"
MOST: Final = 100
"""Notifications of one message; Salesforce's own limit."""

ACK_TYPE: Final = "text/xml; charset=utf-8"
ACK: Final = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b'<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>'
    b'<notificationsResponse xmlns="http://soap.sforce.com/2005/09/outbound"><Ack>true</Ack></notificationsResponse>'
    b"</soapenv:Body></soapenv:Envelope>"
)
"""The body of a 2xx without which Salesforce sends a message again, for 24 hours."""


class NoMessage(ValueError):
    """The body is not an outbound message; the message says why, without quoting it."""


@dataclass(frozen=True, slots=True)
class Notification:
    """One changed object: Salesforce's name of its type ("Lead") and the fields that the message was set up to show.

    `fields` is empty if the object was deleted while the message waited.
    """

    id: str
    type: str
    fields: dict[str, str | None]


@dataclass(frozen=True, slots=True)
class Message:
    """An outbound message. `organization` is the org's id as it was said, 15 or 18 characters."""

    organization: str
    notifications: tuple[Notification, ...]


def read_message(body: bytes) -> Message:
    """Raises `NoMessage`."""
    try:
        envelope = fromstring(body, forbid_dtd=True, forbid_entities=True, forbid_external=True)
    except DefusedXmlException as error:
        raise NoMessage("the body declares a document type or entities, which no outbound message does") from error
    except (ParseError, ValueError, LookupError, RecursionError) as error:
        raise NoMessage("the body is not XML") from error
    message = envelope.find(f"{SOAP}Body/{OUTBOUND}notifications") if envelope.tag == f"{SOAP}Envelope" else None
    if message is None:
        raise NoMessage("the body is XML, but not an outbound message of Salesforce's")
    found = tuple(_notifications(message))
    if not found:
        raise NoMessage("the outbound message holds no notification")
    if len(found) > MOST:
        raise NoMessage(f"the outbound message holds {len(found)} notifications; Salesforce sends at most {MOST}")
    return Message(_text(message.find(f"{OUTBOUND}OrganizationId")) or "", found)


def _notifications(message: Element) -> Iterator[Notification]:
    for one in message.findall(f"{OUTBOUND}Notification"):
        id, shown = _text(one.find(f"{OUTBOUND}Id")), one.find(f"{OUTBOUND}sObject")
        if not id:
            raise NoMessage("a notification has no id")
        if shown is None:
            yield Notification(id, "", {})
            continue
        fields = {field.tag.rpartition("}")[2]: _text(field) for field in shown}
        yield Notification(id, shown.get(TYPE, "").rpartition(":")[2], fields)


def _text(element: Element | None) -> str | None:
    if element is None or element.get(NIL) == "true":
        return None
    return (element.text or "").strip() or None
