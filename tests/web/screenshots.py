"""Makes the screenshots in docs/: `python -m tests.web.screenshots`.

They show a made-up run, so that they are the same every time on a machine with the same fonts.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from paceline.web.app import Observatory
from paceline.web.server import WebServer
from tests.web.browsing import Visit, launch
from tests.web.made_up import BEGIN, MadeUpRun, MadeUpSource

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
MOMENT = BEGIN + 1197.0
"""Some train and some wait; a peer was lost, another has its turn, and an attempt was given up."""
SIZES = {"wide": (1440, 900), "narrow": (390, 844)}
Theme = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = ("light", "dark")
MOST_PIXELS = 1900
COLOURS = 200


def main() -> None:
    """Take four pictures: wide and narrow, light and dark."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    source = MadeUpSource(MadeUpRun(), MOMENT)
    with WebServer("127.0.0.1", 0, Observatory(source)) as server, sync_playwright() as playwright:
        browser = launch(playwright)
        for size in SIZES:
            for theme in THEMES:
                path = folder / f"dashboard-{size}-{theme}.png"
                path.write_bytes(picture(browser, f"http://{server.address}", size, theme))
                print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
        browser.close()


def picture(browser: Browser, address: str, size: str, theme: Theme) -> bytes:
    """Look at the page and keep what is seen.

    Args:
        browser: Looks.
        address: Where the page is.
        size: Of the screen: `wide` or `narrow`.
        theme: `light` or `dark`.

    Returns:
        A PNG.
    """
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height}, reduced_motion="reduce", color_scheme=theme
    )
    seen = Visit(context.new_page()).open(address)
    seen.page.locator(".star").nth(3).click()
    seen.page.mouse.move(0, 0)
    seen.page.wait_for_timeout(500)
    shot = Image.open(io.BytesIO(seen.page.screenshot(full_page=True)))
    context.close()
    small = shot.crop((0, 0, shot.width, min(shot.height, MOST_PIXELS))).convert("RGB")
    kept = io.BytesIO()
    small.quantize(COLOURS, dither=Image.Dither.NONE).save(kept, "PNG", optimize=True)
    return kept.getvalue()


if __name__ == "__main__":
    main()
