#!/opt/shoal/bin/python -I
"""The image's health check: 0 if $SHOAL_HEALTH answers 200 within four seconds, 1 and one line if it does not.

Asks straight, whatever proxies the environment names: the process is in the same container.
"""

import http.client
import os
import sys
import urllib.parse

TIMEOUT_S = 4.0


def main() -> int:
    url = urllib.parse.urlsplit(os.environ.get("SHOAL_HEALTH", "http://127.0.0.1:9100/healthz"))
    try:
        connection = http.client.HTTPConnection(url.hostname or "127.0.0.1", url.port or 80, timeout=TIMEOUT_S)
        connection.request("GET", url.path or "/")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        print(f"{url.geturl()}: {error}", file=sys.stderr)
        return 1
    if status != 200:
        print(f"{url.geturl()} answered {status}", file=sys.stderr)
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
