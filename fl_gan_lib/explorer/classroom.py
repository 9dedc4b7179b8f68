"""A class around one attack: what all of them see, and the secrets that they hand in."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
from collections.abc import Callable
from typing import Any

import numpy as np
import segno

from fl_gan_lib.drawn import SIDE, check_drawings
from fl_gan_lib.explorer.live import ROUNDS_ON_DRAWINGS, LiveAttacks
from fl_gan_lib.explorer.page import as_png

# Easy to type from a blackboard: no l and 1, no o and 0.
TOKEN_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"

MAX_SECRETS = 200
MAX_NICKNAME = 20


class Refused(Exception):
    """Why something is not done, in words for whoever asked for it."""


class Classroom:
    """What all viewers see, what a class has handed in, and who may do what. It is made in a running event loop.

    Args:
        tokens: of the teacher and of the class; None: anybody may do anything, but no page of another site.
        make_attacks: makes what runs the attacks, of a function that is told of them.

    Attributes:
        viewers: a function for each, which sends an event, as JSON.
        handed_in: by a number, nickname and drawings. They are in no event before they are revealed.
    """

    def __init__(
        self, tokens: tuple[str, str] | None = None, *, make_attacks: Callable[..., LiveAttacks] = LiveAttacks
    ) -> None:
        self.tokens = tokens
        self.viewers: set[Callable[[str], None]] = set()
        self.handed_in: dict[int, tuple[str, bytes]] = {}
        self._numbers = itertools.count(1)
        self._attacked: int | None = None  # the number of the drawings that the attack is on
        self._revealed: str | bool | None = None  # these drawings; False, if they can be revealed
        loop = asyncio.get_running_loop()
        self.attacks = make_attacks(lambda news: loop.call_soon_threadsafe(self.tell, {"news": news}))

    def snapshot(self) -> dict[str, Any]:
        """All that there is to see."""
        hello = {"anybody_teaches": self.tokens is None}
        return {"hello": hello, "news": self.attacks.state, "revealed": self._revealed} | self._secrets()

    def tell(self, event: dict[str, Any]) -> None:
        """Send it to all who look."""
        message = json.dumps(event)
        for send in list(self.viewers):
            send(message)

    def start(self, *, target: int | None = None, secret: int | None = None) -> None:
        """Start an attack on a digit or on drawings.

        Raises:
            Refused: the drawings were dropped, another attack is running, or this computer can start none.
        """
        if secret is None:
            what: dict[str, Any] = {"title": f"Live attack on {target}", "target": str(target)}
        elif secret in self.handed_in:
            nickname, drawn = self.handed_in[secret]
            what = {"title": f"Live attack on the secret of {nickname}", "drawings": drawn}
            what["rounds"] = ROUNDS_ON_DRAWINGS
        else:
            raise Refused("These drawings were dropped.")
        try:
            if not self.attacks.start(**what):
                raise Refused("An attack is running: stop it first.")
        except OSError as error:
            raise Refused(f"The attack did not start: {error}") from error
        self._attacked = secret
        self._reveal(None if secret is None else False)

    def reveal(self) -> None:
        """Show the drawings that the attack is on to everybody.

        Raises:
            Refused: there are none.
        """
        if self._attacked is None:
            raise Refused("There are no drawings to reveal: start an attack on a secret first.")
        _, drawn = self.handed_in[self._attacked]
        self._reveal(as_png(np.frombuffer(drawn, np.uint8).reshape(1, -1, SIDE, SIDE)))

    def drop(self, secret: int | None = None) -> None:
        """Forget drawings, by default those that are attacked, and whatever an attack has drawn of them.

        What the attack's process has computed from them stays in its memory until the server ends.
        """
        secret = self._attacked if secret is None else secret
        self.handed_in.pop(secret, None)
        if secret is not None and secret == self._attacked:
            self._attacked = None
            self.attacks.clear()
            self._reveal(None)
        self.tell(self._secrets())

    def start_over(self) -> None:
        """Forget all drawings; whoever wants to hand in some needs a new invitation."""
        self.handed_in.clear()
        if self.tokens is not None:
            self.tokens = self.tokens[0], new_token()
        self.drop()

    def hand_in(self, nickname: str, drawn: bytes) -> None:
        """Keep somebody's drawings.

        Raises:
            Refused: there is no nickname, or it is taken; there are too many secrets; or the drawings cannot be a
                class (`check_drawings`).
            ValueError: the bytes are no pictures.
        """
        pictures = np.frombuffer(drawn, np.uint8).reshape(-1, SIDE, SIDE)
        nickname = " ".join("".join(letter for letter in nickname if letter.isprintable()).split())[:MAX_NICKNAME]
        if not nickname:
            raise Refused("Give a nickname.")
        if len(self.handed_in) >= MAX_SECRETS:
            raise Refused("There are too many secrets already: the teacher must drop some.")
        if any(nickname == other for other, _ in self.handed_in.values()):
            raise Refused(f"{nickname} has handed something in already: choose another nickname.")
        try:
            check_drawings(pictures)
        except ValueError as error:
            raise Refused(str(error)) from error
        self.handed_in[next(self._numbers)] = nickname, drawn
        self.tell(self._secrets())

    def invite(self, address: str) -> str:
        """In JSON: `address`, that of the page as the class needs it, and `code`, the same as a QR code (a data URL).

        Raises:
            Refused: other computers cannot open the page.
        """
        if self.tokens is None:
            raise Refused("Only this computer can open the page. For a class: make demo IP=0.0.0.0")
        address = f"{address}#class={self.tokens[1]}"
        return json.dumps({"address": address, "code": segno.make(address).svg_data_uri(scale=5, light="white")})

    def _reveal(self, drawings: str | bool | None) -> None:
        self._revealed = drawings
        self.tell({"revealed": drawings})

    def _secrets(self) -> dict[str, Any]:
        known = ((number, nickname, len(drawn) // SIDE**2) for number, (nickname, drawn) in self.handed_in.items())
        return {"secrets": [{"id": number, "nickname": name, "number": count} for number, name, count in known]}


def new_token(length: int = 6) -> str:
    return "".join(secrets.choice(TOKEN_LETTERS) for _ in range(length))
