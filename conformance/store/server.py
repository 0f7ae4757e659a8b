"""An S3 server for tests: moto, answering one request at a time.

    server.py PORT

moto keeps objects in memory and knows conditional puts, but looks and writes in two steps: with several requests at
once, two could create one name. A lock around the whole makes the two steps one, as S3 does it.
"""

import sys
import threading

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple


def main():
    application = DomainDispatcherApplication(create_backend_app)
    lock = threading.Lock()

    def one_at_a_time(environ, start_response):
        with lock:
            return list(application(environ, start_response))

    run_simple("127.0.0.1", int(sys.argv[1]), one_at_a_time, threaded=True)


if __name__ == "__main__":
    main()
