//! Programs for the two ends of a link that send and receive numbered datagrams, in Python: what a receiver sees, told
//! apart from what the link says that it did.

#![allow(dead_code, reason = "each test binary uses a part of this")]

/// Sends: `python3 -c SENDER COUNT BYTES BURST GAP_S`. So many datagrams of so many bytes, each with its number and a
/// checksum, so many at once, then a gap; the kernel's own checksum left out, so that damage reaches the receiver. Waits
/// for the receiver at the beginning, and at the end until it has written what it saw.
pub const SENDER: &str = "
import os, socket, struct, sys, time, zlib
count, size, burst, gap = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
peer = os.environ['HAUL_LINK_PEER']
control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
control.settimeout(1)
def tell(word):
    while True:
        control.sendto(word, (peer, 10))
        try:
            while control.recv(10) != word: pass
            return
        except (TimeoutError, ConnectionRefusedError): pass
tell(b'hello')
data = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
data.setsockopt(socket.SOL_SOCKET, 11, 1)
data.connect((peer, 9))
filler = bytes(size - 8)
due = time.monotonic()
for number in range(count):
    body = struct.pack('>I', number) + filler
    data.send(struct.pack('>I', zlib.crc32(body)) + body)
    if number % burst == burst - 1:
        due += gap
        time.sleep(max(0, due - time.monotonic()))
# A round trip, in which all that is late arrives.
tell(b'wait')
tell(b'end')
";

/// Receives what [`SENDER`] sends: `python3 -c RECEIVER FILE`. When it is told the end, it writes one object to the file:
/// `numbers` of the intact datagrams in the order in which they came, `damaged`, how many were not intact, and `seconds`
/// from the first to the last. On port 11, it gives back what it gets.
pub const RECEIVER: &str = "
import json, select, socket, struct, sys, time, zlib
def bound(port):
    it = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try: it.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)
    except PermissionError: it.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
    it.bind(('', port))
    it.setblocking(False)
    return it
data, control, echo = bound(9), bound(10), bound(11)
numbers, damaged, first, last = [], 0, None, None
while True:
    ready = select.select([data, control, echo], [], [])[0]
    if data in ready:
        packet = data.recv(65536)
        last = time.monotonic()
        first = first or last
        if len(packet) > 8 and struct.unpack('>I', packet[:4])[0] == zlib.crc32(packet[4:]):
            numbers.append(struct.unpack('>I', packet[4:8])[0])
        else: damaged += 1
    elif echo in ready:
        echo.sendto(*echo.recvfrom(65536))
    else:
        word, sender = control.recvfrom(10)
        if word == b'end':
            seconds = last - first if numbers else 0
            with open(sys.argv[1], 'w') as file:
                json.dump({'numbers': numbers, 'damaged': damaged, 'seconds': seconds}, file)
        control.sendto(word, sender)
";

/// Measures round trips to [`RECEIVER`]: `python3 -c PINGER COUNT FILE`. One after the other; a list of seconds.
pub const PINGER: &str = "
import json, os, socket, sys, time
echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
echo.connect((os.environ['HAUL_LINK_PEER'], 11))
echo.settimeout(1)
trips = []
while len(trips) < int(sys.argv[1]):
    before = time.monotonic()
    try:
        echo.send(bytes(64))
        echo.recv(100)
        trips.append(time.monotonic() - before)
    except (TimeoutError, ConnectionRefusedError): pass
json.dump(trips, open(sys.argv[2], 'w'))
";
