"""A provider on loopback that answers with 1 KB after a wait, as cheaply as Python can: a process of its own, so that its work is not
counted. `python loopback.py PORT LATENCY JITTER` serves until it is killed; LATENCY and JITTER in seconds."""

from __future__ import annotations

import asyncio
import json
import random
import sys

TEXT = "word " * 200
BODY = json.dumps(
    {
        "id": "c1",
        "text": "word",  # what the http target reads
        "object": "chat.completion",
        "created": 1,
        "model": "stand-in",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 200, "total_tokens": 220},
    }
).encode()
RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY


async def serve(port: int, latency: float, jitter: float) -> None:
    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(length)
                if latency:
                    await asyncio.sleep(latency + random.uniform(-jitter, jitter))
                writer.write(RESPONSE)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
