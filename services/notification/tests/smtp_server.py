"""A real SMTP server that misbehaves on request, by the local part of the recipient.

refused@  is refused with 550.
busy@     is put off with 451, once.
slow@     is kept, and its sender left without an answer, once.
Every message that was kept is one line of JSON on standard output.

Needs the Debian package python3-aiosmtpd. Usage: smtp_server.py PORT [ADDRESS]; 127.0.0.1 by default.
"""

import asyncio
import email
import email.policy
import json
import sys
import time

from aiosmtpd.smtp import SMTP


class Handler:
    def __init__(self):
        self.seen = set()

    def first(self, address):
        known = address in self.seen
        self.seen.add(address)
        return not known

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("refused@"):
            return "550 5.1.1 no such mailbox"
        if address.startswith("busy@") and self.first(address):
            return "451 4.3.0 try again"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        line = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "id": message["message-id"],
            "subject": message["subject"],
            "body": message.get_content(),
            "at": time.time(),
        }
        print(json.dumps(line), flush=True)
        if envelope.rcpt_tos[0].startswith("slow@") and self.first(envelope.rcpt_tos[0]):
            await asyncio.sleep(3600)
        return "250 kept"


async def main(port, address="127.0.0.1"):
    handler = Handler()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(handler, enable_SMTPUTF8=True), address, port)
    await server.serve_forever()


asyncio.run(main(int(sys.argv[1]), *sys.argv[2:]))
