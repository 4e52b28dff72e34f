"""An FTP server that wants TLS on both of its connections. Arguments: address, port, lowest passive port, PEM file, folder to serve."""

import sys

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import TLS_FTPHandler
from pyftpdlib.servers import FTPServer

address, port, low, pem, folder = sys.argv[1:]
authorizer = DummyAuthorizer()
authorizer.add_anonymous(folder)


class Handler(TLS_FTPHandler):
    certfile = pem
    tls_control_required = True
    tls_data_required = True
    passive_ports = range(int(low), int(low) + 2000)


Handler.authorizer = authorizer
FTPServer((address, int(port)), Handler).serve_forever()
