"""Taking out of text what is nobody else's business: addresses, keys, paths, and the names of people and
machines. What is left is what a bug report needs.

    >>> redact = Redaction(user="ada", host="rack7", home="/home/ada")
    >>> redact("dialled /ip4/203.0.113.7/tcp/4001 from /home/ada/runs/node on rack7")
    'dialled /ip4/IP-1/tcp/4001 from …/node on HOST'
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from ipaddress import ip_address

import base58

_PLAIN = frozenset({"127.0.0.1", "0.0.0.0", "::1", "::"})
_DNS = re.compile(r"(/dns(?:4|6|addr)?/)[^/\s\"']+")
_URL = re.compile(r"\b([a-z][a-z0-9+.-]*://)[^\s/\"'<>]+", re.IGNORECASE)
_MAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*")
_IPV4 = re.compile(r"(?<!\d)\d{1,3}(?:([.-])\d{1,3})(?:\1\d{1,3}){2,}(?!\d)")
_MAC = re.compile(r"(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}", re.IGNORECASE)
_IPV6 = re.compile(
    r"(?<![\w:])(?:[0-9a-f]{0,4}:){2,8}(?:[0-9a-f]{0,4}|\d{1,3}(?:\.\d{1,3}){3})(?![\w:])", re.I
)
_HOST_PORT = re.compile(r"\b(?=[\w.-]*[a-z])[a-z0-9](?:[\w-]|\.(?=\w))*(?=:\d{4,5}\b)", re.IGNORECASE)
_NAME_ON_THE_NET = re.compile(
    r"\b(?:[a-z0-9-]+\.)+(?:com|org|net|io|ai|dev|cloud|edu|gov|info|example|local|lan|internal|home)\b(?!/[^p])",
    re.IGNORECASE,
)
_LONG_NAME = re.compile(  # three parts and more, but for names of modules
    r"(?<![\w.-])(?!(?:paceline|hivemind|torch|numpy|pydantic|asyncio|concurrent|multiprocessing|importlib|typer|rich)\.)"
    r"(?:[a-z0-9-]+\.){2,}[a-z]{2,24}\b",
    re.IGNORECASE,
)
_HIDDEN_VALUE = re.compile(
    r"(?i)\b([\w-]*(?:token|secret|passwo?r?d|passphrase|credential|[_-]key|apikey|authorization)[\w-]*"
    r"[\"']?\s*[=:]\s*(?:bearer\s+|basic\s+)?)(?:\"[^\"]*\"|'[^']*'|[^\s\"',;}]+)"
)
_TOKEN = re.compile(r"\b(?:hf|ghp|gho|ghs|github_pat|glpat|sk|xox[abpr])[_-][A-Za-z0-9_-]{6,}")
_PEM = re.compile(r"-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|\Z)", re.DOTALL)
_HOMES = re.compile(r"(/(?:home|Users|Volumes|media|mnt)/)[^/\s\"']+")
_UNIX_PATH = re.compile(r"(?<![\w/.~-])~?(?:/[^\s/\"'<>|:,;()\[\]{}]+){2,}/?")
_WINDOWS_PATH = re.compile(r"\b[A-Za-z]:\\(?:[^\s\\\"'<>|]+\\)*[^\s\\\"'<>|]*")
_MULTIADDR_STARTS = ("/ip4/", "/ip6/", "/dns", "/p2p/", "/unix/")
_OF_INTEREST = re.compile(r"/((?:site-packages|dist-packages|src/paceline|lib/python3\.\d+)/[^\s\"']+)$")
_PUBLIC_FOLDERS = ("/dev/", "/proc/", "/sys/", "/etc/")


class Redaction:
    """Redacts texts of one report; equal addresses get equal names throughout.

    Guarantees:
        No address but loopback is left in a text.
        Of a path only the file's name is left, or its place within a library.
        No secret that is known is left in a text however it is spelled.
    """

    def __init__(
        self, *, user: str = "", host: str = "", home: str = "", secrets: Iterable[bytes] = ()
    ) -> None:
        """Note what is to be taken out beside what is recognised.

        Args:
            user: Name of the user.
            host: Name of the machine.
            home: The user's folder.
            secrets: Keys that must not be in there, whatever else is.
        """
        words = {user: "USER", host: "HOST", host.partition(".")[0]: "HOST", home.rpartition("/")[2]: "USER"}
        self._words = [
            (re.compile(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])", re.IGNORECASE), name)
            for word, name in sorted(words.items(), key=lambda item: -len(item[0]))
            if len(word) > 1
        ]
        self._secrets = [spelling for secret in secrets for spelling in _spellings(secret)]
        self._addresses: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        """Redact a text.

        Args:
            text: Any text.

        Returns:
            The same without what is nobody else's business, and without control characters.
        """
        for secret in self._secrets:
            text = text.replace(secret, "SECRET")
        text = "".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in text)
        text = _PEM.sub("SECRET", text)
        text = _TOKEN.sub("SECRET", text)
        text = _HIDDEN_VALUE.sub(r"\1SECRET", text)
        text = _DNS.sub(r"\1HOST", text)
        text = _URL.sub(lambda found: found[1] + self._url_host(found[0][len(found[1]) :]), text)
        text = _MAIL.sub("MAIL", text)
        text = _MAC.sub("MAC", text)
        text = _IPV6.sub(self._address, text)
        text = _IPV4.sub(self._address, text)
        text = _WINDOWS_PATH.sub(lambda found: "…\\" + found[0].rpartition("\\")[2], text)
        text = _HOMES.sub(r"\1USER", text)
        text = _UNIX_PATH.sub(lambda found: _shortened(found[0]), text)
        text = _HOST_PORT.sub(lambda found: self._host(found[0]), text)
        text = _NAME_ON_THE_NET.sub("HOST", text)
        text = _LONG_NAME.sub("HOST", text)
        for word, name in self._words:
            text = word.sub(name, text)
        return text

    def _address(self, found: re.Match[str]) -> str:
        text = found[0]
        try:
            spelled = str(ip_address(text))
        except ValueError:
            return text if ":" in text else "IP"  # 999.1.1.1, or an address with dashes in a name
        if spelled in _PLAIN:
            return text
        return self._addresses.setdefault(spelled, f"IP-{len(self._addresses) + 1}")

    def _url_host(self, place: str) -> str:
        host, colon, port = place.rpartition("@")[2].partition(":")
        return (host if host in (*_PLAIN, "localhost") else "HOST") + colon + port

    def _host(self, name: str) -> str:
        return name if name in ("localhost", *_PLAIN) or re.match(r"IP-\d+$|HOST$", name) else "HOST"


def _spellings(secret: bytes) -> list[str]:
    plain = [
        secret.hex(),
        secret.hex().upper(),
        base58.b58encode(secret).decode(),
        base64.b64encode(secret).decode().rstrip("="),
        base64.urlsafe_b64encode(secret).decode().rstrip("="),
        secret.decode("latin-1"),
        repr(secret)[2:-1],
    ]
    return [text for text in plain if text]


def _shortened(path: str) -> str:
    if path.startswith(_MULTIADDR_STARTS):
        return path
    if found := _OF_INTEREST.search(path):
        return f"…/{found[1]}"
    if path.startswith(_PUBLIC_FOLDERS):
        return path
    return f"…/{path.rstrip('/').rpartition('/')[2]}"
