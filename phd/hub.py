"""Whether the Hugging Face hub answers, asked once and briefly."""

from __future__ import annotations

import urllib.error
import urllib.request

from huggingface_hub import constants

PROBE_SECONDS = 5.0


def hub_unreachable(repository: str) -> str:
    """Why the hub cannot be reached, or nothing.

    The hub's own client tries for a minute, with a line of log for each try, before it says so.
    """
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    endpoint = constants.ENDPOINT
    try:
        urllib.request.urlopen(f"{endpoint}/api/models/{repository}", timeout=PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        return ""  # it answers; the download says what is wrong
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        return f"{endpoint} cannot be reached ({getattr(error, 'reason', error)})"
    return ""
