"""Names for people: every peer id has a nickname of two words that follows from it alone.

A peer id is 52 letters of which people remember none. A nickname is easy to say, the same on every machine
and for ever, and proves nothing: two peers may share one, and with some patience anybody finds an id for any
nickname. So it stands beside the short id, and nothing is looked up by it but what people ask to see.

    >>> nickname("12D3KooWA1bysjrTACSWqf6q172inxvwKHUxAnBtVgaVDKMxpZtx")
    'silken-bullfinch'
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache

from paceline.core.signing import short

_ADJECTIVE_WORDS = """
able agile airy alert alpine amber ample apt aqua arctic ardent artful astral autumn avid azure balmy
bold bonny brave breezy bright brisk bronze bubbly calm candid carefree cheery chilly chipper civil
classic clean clear clever cloudy coastal cobalt cool copper coral cordial cosmic cosy crimson crisp
curious dainty dapper daring dashing deft dewy distant dreamy driven dusky eager early earnest elated
elegant elfin emerald epic even exact fabled fair faithful famous fast fearless festive fine firm fleet
floral fluent fluffy fond frank free fresh frisky frosty gallant genial gentle gifted gilded glad
gleaming glossy golden grand grassy great green gritty gusty handy happy hardy hazel hearty helpful
hilly honest hopeful humble indigo inky jade jaunty jazzy jolly jovial joyful keen kind lavish leafy
level lilac limber lively lofty loyal lucid lucky lunar maple marble mellow merry mighty mild minty
misty modest mossy neat nimble noble nordic olive opal orderly patient peaceful pearly peppy placid
plucky plum polar polished polite prompt proud quick quiet radiant rapid ready regal robust rosy royal
ruby rugged rural russet rustic sandy sapphire scenic serene sharp shiny silken silver simple sincere
sleek smart smooth snappy snowy snug solar solid sonic sparkling speedy spirited sprightly spruce stable
starry stately steady stoic stout strong sturdy sunny sure swift tactful tender tidal tidy timely topaz
tranquil true trusty upbeat urban valiant velvet verdant vibrant violet vital vivid warm watchful wavy
wide windy winged wintry wise witty worthy zesty
"""
_NOUN_WORDS = """
albatross alpaca antelope avocet badger barbet barracuda beaver beetle bison bittern blackbird bluebird
bobcat brambling bullfinch bunting butterfly buzzard camel canary capybara cardinal caribou cassowary
caterpillar chaffinch chamois cheetah chickadee chinchilla chipmunk cockatoo condor cormorant corncrake
cougar coyote crake crane cricket crossbill curlew cyclist dabchick deer dingo dipper dolphin dormouse
dove dragonfly duck dunlin dunnock eagle egret eland elephant elk emu ermine falcon fennec ferret
fieldfare finch firecrest firefly flamingo flycatcher fox frog fulmar gadwall gannet gazelle gecko
gerbil giraffe goat godwit goldcrest goldfinch goshawk grebe greenfinch grosbeak grouse guillemot hare
harrier hawfinch hawk hedgehog heron hoopoe hornbill horse hummingbird ibex ibis iguana impala jackdaw
jaguar jay kakapo kangaroo kestrel kingbird kingfisher kittiwake kiwi koala kudu ladybird lapwing lark
lemming lemur leopard linnet lion llama lobster loon lynx macaw magpie mallard manatee mantis marlin
marmot marten martin meerkat merganser merlin mongoose moorhen moose mustang narwhal newt nightingale
nightjar numbat nuthatch ocelot octopus okapi oriole oryx osprey ostrich otter owl oystercatcher panda
pangolin panther parakeet parrot partridge peacock pelican penguin peregrine petrel phalarope pheasant
pigeon pika pintail pipit plover pony porpoise ptarmigan puffin puma quail quetzal quokka rabbit raccoon
racer raven razorbill redpoll redshank redstart redwing reindeer rider roadrunner robin rouleur salmon
sanderling sandpiper seahorse seal serin serval shearwater sheep shelduck shoveler siskin skimmer skua
skylark sparrow spoonbill sprinter squirrel stallion starling stilt stoat stonechat stork sunbird
swallow swan tanager tapir teal tern thrush tiger toucan treecreeper trout tuna turnstone turtle vole
wagtail wallaby walrus warbler waxwing weaver whale wheatear whimbrel whinchat wigeon wolf wolverine
wombat woodcock woodpecker wren wryneck yellowhammer zebra
"""
_ADJECTIVES, _NOUNS = tuple(_ADJECTIVE_WORDS.split()), tuple(_NOUN_WORDS.split())


@lru_cache(maxsize=4096)
def nickname(peer_id: str) -> str:
    """Name a peer.

    Args:
        peer_id: Its id; any text will do.

    Returns:
        An adjective and an animal, or somebody on a bicycle, joined by a dash.
    """
    digest = hashlib.sha256(b"paceline nickname\x00" + peer_id.encode(errors="replace")).digest()
    first, second = (int.from_bytes(part, "big") for part in (digest[:8], digest[8:16]))
    return f"{_ADJECTIVES[first % len(_ADJECTIVES)]}-{_NOUNS[second % len(_NOUNS)]}"


def named(peer_id: str) -> str:
    """Spell a peer for people: nickname and short id.

    Args:
        peer_id: Its id.

    Returns:
        Such as `silken-bullfinch pxZtx7`; empty when there is no peer.
    """
    return f"{nickname(peer_id)} {short(peer_id)}" if peer_id else ""


def matching(text: str, peers: Iterable[str]) -> list[str]:
    """Find the peers that somebody may mean.

    Args:
        text: A peer id, its beginning, the short id, a nickname or its beginning, or what `named` gives.
        peers: Peer ids to choose from.

    Returns:
        The one that is meant exactly, or else all that begin like this, sorted; none when the text is empty.
    """
    wanted = " ".join(text.split())
    known = sorted(set(peers))
    exact = [p for p in known if wanted in (p, short(p), nickname(p), named(p))]
    return exact or [p for p in known if wanted and (p.startswith(wanted) or nickname(p).startswith(wanted))]
