"""Dialling back: whoever wants to know whether it can be reached asks another, and that one tries.

Every peer and seed offers it. The request names a port and what will be heard there; the other opens a TCP
connection of its own, listens, and says whether it heard that. A port that is still free speaks a word drawn
by the asker, a node that runs speaks libp2p's greeting. One libp2p stream carries one question:

    either way: length (2 bytes, big-endian), JSON of at most `MAX_MESSAGE_BYTES`

So that nobody is made to knock at strangers' doors, only the address is dialled from which the asker itself
is connected, nothing is sent there, and what is heard there is compared and not told. An asker, by its
address and by its peer id, is dialled once in `AGAIN_S` and holds half of the conversations at most.

Whoever stands behind something that hides where connections come from (a masquerading proxy or load balancer,
some containers' port mappings) sees the proxy's address in place of each asker's. Then all askers together
count as one, what is dialled is the proxy, and the answer tells of that machine's ports and not of the
asker's: a stranger can learn which of its ports from 1024 on are open, one in `AGAIN_S`. Publish such a
peer's port with the host's own network instead, or keep what listens on the proxy's inner address behind a
firewall.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from struct import Struct
from typing import Annotated, Any, Literal

from hivemind.dht import DHT, DHTNode
from pydantic import Field

from paceline.core.records import Count, Frozen

HANDLER = "paceline.dial_back"
"""Name of the stream's protocol: the same in all runs, since a seed serves any."""
MAX_MESSAGE_BYTES = 512
"""No honest message is longer."""
GREETING = b"\x13/multistream/1.0.0\n"
"""What a libp2p node says first to whoever connects to it."""
DIAL_S = 5.0
"""How long a dialled address has to be heard."""
AGAIN_S = 10.0
"""How often one address is dialled, at most, and one peer."""
_AT_ONCE, _OF_ONE = 4, 2
_ALL = ""
_ASK_S = 5.0
_LINGER_S = 2.0
_REMEMBERED = 512
_HOSTS_BITS = 64  # so much of an IPv6 address its holder chooses freely
_LENGTH = Struct(">H")

Outcome = Literal["reached", "other", "refused", "silent", "declined"]
"""Heard what was to be heard; something else; nobody listens; no answer; or it was not tried."""


class DialBack(Frozen):
    """The question."""

    port: Annotated[int, Field(ge=1024, le=65535)]
    """TCP port to dial; those below 1024 are nobody's to have dialled."""
    expects: Annotated[str, Field(pattern=r"^([0-9a-f]{2}){1,32}$")]
    """What is to be heard there, in hexadecimal digits."""


class DialledBack(Frozen):
    """The answer."""

    outcome: Outcome
    """How it went."""
    host: Annotated[str, Field(max_length=45)]
    """The asker's IP address as the one who answers sees it; empty when it came over a relay."""
    clock_ms: Count
    """The clock of the one who answers, in milliseconds since 1970."""
    cause: Annotated[str, Field(max_length=120)] = ""
    """Why it was not tried."""


class DialBackServer:
    """Dials back, within limits.

    Guarantees:
        Only the address that the asker is connected from is dialled.
        An address is not dialled again before its time.
        An asker is not dialled again under another name or address.
        One asker leaves room for others.
        A dial back tells nothing of what it heard.
        Garbage in place of a question is hung up on.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, dial_s: float = DIAL_S) -> None:
        """Begin without a memory.

        Args:
            clock: Monotonic seconds.
            dial_s: How long a dialled address has to be heard.
        """
        self._clock, self._dial_s = clock, dial_s
        self._dialled_at: OrderedDict[str, float] = OrderedDict()
        self._conversations: Counter[str] = Counter()

    async def take(self, info: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one stream; hivemind calls this.

        Args:
            info: Whose stream it is: `peer_id`, and `addr`, the multiaddr that its connection comes from.
            reader: What the asker says.
            writer: Where the answer goes.
        """
        host = _host_of(str(info.addr))
        names = [_ALL, str(info.peer_id), *([_network_of(host)] if host else [])]
        self._conversations.update(names)
        try:
            if all(self._conversations[name] <= (_AT_ONCE if name == _ALL else _OF_ONE) for name in names):
                await self._converse(host, names[1:], reader, writer)
        except (OSError, EOFError, ValueError):
            pass  # the asker has left, takes too long (TimeoutError) or talks nonsense
        finally:
            self._conversations.subtract(names)
            self._conversations = +self._conversations  # without those of whom there are none
            writer.transport.abort()

    async def _converse(
        self, host: str, names: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        async with asyncio.timeout(_ASK_S):
            question = DialBack.model_validate_json(await read_message(reader))
        answer = await self._answer(host, names, question)
        async with asyncio.timeout(_LINGER_S):
            writer.write(framed(answer))
            await writer.drain()
            # The daemon resets a stream that is closed, and the reset can overtake the answer.
            while await reader.read(MAX_MESSAGE_BYTES):
                pass

    async def _answer(self, host: str, names: list[str], question: DialBack) -> DialledBack:
        if not host:
            return self._say("declined", "", "you are connected over a relay")
        now = self._clock()
        if any(now < self._dialled_at.get(name, float("-inf")) + AGAIN_S for name in names):
            return self._say("declined", host, f"you were dialled within the last {AGAIN_S:.0f} s")
        for name in names:
            self._dialled_at[name] = now
            self._dialled_at.move_to_end(name)
        while len(self._dialled_at) > _REMEMBERED:
            self._dialled_at.popitem(last=False)
        return self._say(await _dial(host, question, self._dial_s), host)

    def _say(self, outcome: Outcome, host: str, cause: str = "") -> DialledBack:
        return DialledBack(outcome=outcome, host=host, clock_ms=int(time.time() * 1000), cause=cause)


async def offer_dial_backs(_dht: DHT, node: DHTNode) -> None:
    """Begin to dial back; runs in the DHT's process, to which `run_coroutine` sends it.

    Args:
        node: The node.
    """
    await node.p2p.add_binary_stream_handler(HANDLER, DialBackServer().take)


async def _dial(host: str, question: DialBack, dial_s: float) -> Outcome:
    expected = bytes.fromhex(question.expects)
    connected = False
    try:
        async with asyncio.timeout(dial_s):
            reader, writer = await asyncio.open_connection(host, question.port)
            connected = True
            try:
                heard = await reader.readexactly(len(expected))
            finally:
                writer.transport.abort()
    except EOFError:
        return "other"
    except TimeoutError:
        return "other" if connected else "silent"
    except OSError:
        return "other" if connected else "refused"
    return "reached" if heard == expected else "other"


def _host_of(address: str) -> str:
    # Such as /ip4/203.0.113.7/tcp/4001; through a relay, the address is the relay's.
    parts = address.split("/")
    return parts[2] if len(parts) > 2 and parts[1] in ("ip4", "ip6") and "p2p-circuit" not in parts else ""


def _network_of(host: str) -> str:
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if address.version == 4:
        return host
    return str(ip_network((int(address) >> _HOSTS_BITS << _HOSTS_BITS, _HOSTS_BITS)))


def framed(message: Frozen) -> bytes:
    """Spell a message as it lies on a stream.

    Args:
        message: Question or answer.

    Returns:
        Length and JSON.
    """
    body = message.model_dump_json().encode()
    return _LENGTH.pack(len(body)) + body


async def read_message(reader: asyncio.StreamReader) -> bytes:
    """Wait for a message.

    Args:
        reader: The stream.

    Returns:
        Its JSON, unchecked.

    Raises:
        ValueError: It claims to be longer than any honest one.
    """
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > MAX_MESSAGE_BYTES:
        raise ValueError("a message that is too long")
    return await reader.readexactly(length)
