import pytest
from helpers.browser import Page, chromium


@pytest.fixture
def browse():
    """Opens a file in a real browser."""
    if chromium() is None:
        pytest.skip('no Chromium on the PATH or in CHROMIUM (Debian: apt-get install chromium)')
    pages = []

    def browse(path, **kwargs):
        pages.append(Page(path.resolve().as_uri(), **kwargs))
        return pages[-1]

    yield browse
    for page in pages:
        page.close()
