/* PlainReader in C: one call an event-loop pass that waits on nothing, reads every plain stream that is ready with
 * the kernel's receive stamp, takes the HTTP chunks and SSE events off it, and records one row an event.
 *
 * Its twin, and its specification, is PythonPlainReader in plain.py; the same tests run over both. What it does not
 * know it hands up as bytes: a read is taken whole or handed up whole.
 *
 * Bytes come from servers that may be hostile. Every look at them is bounded by the end of the read; a chunk's size
 * has at most 8 hex digits and is compared with what is there before it is used. Nothing is allocated by what a server
 * says: the buffer has one fixed size, and the list of events of one read is bounded by it.
 *
 * Linux, 64 bit. All calls hold the GIL: none waits. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>

enum { READ_BYTES = 256 * 1024, MOST_SOCKETS = 1024, MOST_HEX = 8, ROW_BYTES = 5 * 8 + 2 };

static const int64_t NEVER_SEEN = INT64_MIN;                /* names.NULL */
static const int64_t BELIEVABLE_LAG_NS = 5000000000;        /* stamps.py: a larger or negative lag is a clock step */
static const uint32_t READABLE = EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP;

/* Bytes that a bytes object owns; `data` is NULL where there are none. */
typedef struct {
    PyObject *owner;
    const char *data;
    size_t size;
} Bytes;

typedef struct {
    bool active, chunked, awaits_head;
    int64_t index, channel;
    Bytes prefix, between, suffix; /* wire.openai.Shape; between.data NULL: no ids; prefix.data NULL: not begun */
    Bytes head, before_id, before_created, before_text; /* opening.Opening; NULL of a stream that was begun */
    PyObject *sink;                /* a bytearray that takes packed rows, or a callable `add` */
    int64_t reads, events, tokens, last_ns, lag_max_ns;
    int64_t headers_ns, previous_ns, first_ns, first_tokens, first_error_ns; /* of an opening */
} Stream;

typedef struct {
    int64_t tokens, bytes;
} Event;

typedef struct {
    PyObject_HEAD
    int epoll_fd;
    Py_ssize_t ready; /* of the last poll */
    long long wall_step_ns; /* for tests: what a step of the wall clock would add to it */
    PyObject *clock, *counters, *ready_type, *taken_type;
    Stream **streams; /* by descriptor */
    size_t streams_size;
    Event *events; /* of the read at hand */
    size_t events_size;
    int64_t reads, unstamped, clock_steps; /* since they were last added to `counters` */
    char *buffer;
} Reader;

/* One read. size: 0 at the end of the stream, and where reading failed (error: its errno). */
typedef struct {
    ssize_t size;
    int error;
    int64_t t_ns, lag_ns;
} Read;

static int64_t now_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The bytes of a read. Each takes where it is and where the bytes end, and returns where it came to, or NULL. */

static const char *after_bytes(const char *at, const char *end, const char *expected, size_t size)
{
    return (size_t)(end - at) >= size && memcmp(at, expected, size) == 0 ? at + size : NULL;
}

/* Whether eight bytes hold no quote, no backslash and no control character, all at once: a byte is zero, or less than
   0x20, where taking 1, or 0x20, from it borrows from its highest bit (H. S. Warren, Hacker's Delight, 6-1). */
static bool eight_plain(const char *at)
{
    const uint64_t each = 0x0101010101010101, high = 0x8080808080808080;
    uint64_t word;
    memcpy(&word, at, sizeof word);
    uint64_t quote = word ^ each * '"', backslash = word ^ each * '\\';
    uint64_t found = ((quote - each) & ~quote) | ((backslash - each) & ~backslash) | ((word - each * 0x20) & ~word);
    return (found & high) == 0;
}

/* JSON text that is not empty, up to the quote that ends it; \u is left to the parsers, as in openai.py. */
static const char *after_text(const char *at, const char *end)
{
    const char *start = at;
    for (;;) {
        while (end - at >= 8 && eight_plain(at))
            at += 8;
        if (at >= end || *at == '"')
            break;
        if ((unsigned char)*at < 0x20)
            return NULL;
        if (*at == '\\') {
            if (end - at < 2 || memchr("\"\\/bfnrt", at[1], 8) == NULL)
                return NULL;
            at++;
        }
        at++;
    }
    return at > start ? at : NULL;
}

static const char *after_digits(const char *at, const char *end)
{
    const char *start = at;
    while (at < end && *at >= '0' && *at <= '9')
        at++;
    return at > start ? at : NULL;
}

/* Token ids: numbers with a comma, and perhaps one blank, between them. */
static const char *after_ids(const char *at, const char *end, int64_t *count)
{
    at = after_digits(at, end);
    for (*count = 1; at != NULL && at < end && *at == ','; ++*count) {
        at++;
        if (at < end && *at == ' ')
            at++;
        at = after_digits(at, end);
    }
    return at;
}

/* The id of a reply: no quote, no escape, no line end. */
static const char *after_word(const char *at, const char *end)
{
    while (at < end && (unsigned char)*at >= 0x20 && *at != '"' && *at != '\\')
        at++;
    return at;
}

/* The beginning of the first event, up to its text: as in replies before, but for its id and time. */
static const char *after_first_prefix(const Stream *stream, const char *at, const char *end)
{
    at = after_bytes(at, end, stream->before_id.data, stream->before_id.size);
    if (at != NULL)
        at = after_bytes(after_word(at, end), end, stream->before_created.data, stream->before_created.size);
    if (at != NULL)
        at = after_digits(at, end);
    return at == NULL ? NULL : after_bytes(at, end, stream->before_text.data, stream->before_text.size);
}

/* prefix: of the stream's events; that of the first one is put there. */
static const char *after_event(const Stream *stream, const char *at, const char *end, Bytes *prefix, Event *event)
{
    const char *start = at;
    event->tokens = NEVER_SEEN;
    if (prefix->data != NULL) {
        at = after_bytes(at, end, prefix->data, prefix->size);
    } else if ((at = after_first_prefix(stream, at, end)) != NULL) {
        prefix->data = start;
        prefix->size = (size_t)(at - start);
    }
    if (at != NULL)
        at = after_text(at, end);
    if (at != NULL && stream->between.data != NULL) {
        at = after_bytes(at, end, stream->between.data, stream->between.size);
        if (at != NULL)
            at = after_ids(at, end, &event->tokens);
    }
    if (at != NULL)
        at = after_bytes(at, end, stream->suffix.data, stream->suffix.size);
    if (at != NULL)
        event->bytes = at - start - (int64_t)strlen("data: \n\n");
    return at;
}

/* The head of an HTTP chunk without extensions; its size is neither 0 nor more than is there with its line end. */
static const char *after_chunk_head(const char *at, const char *end, size_t *size)
{
    int digits = 0;
    *size = 0;
    for (; at < end; at++, digits++) {
        char c = *at;
        int value = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (value < 0)
            break;
        if (digits == MOST_HEX)
            return NULL;
        *size = *size * 16 + (size_t)value;
    }
    at = digits ? after_bytes(at, end, "\r\n", 2) : NULL;
    if (at == NULL || *size == 0 || end - at < 2 || *size > (size_t)(end - at) - 2)
        return NULL;
    return after_bytes(at + *size, end, "\r\n", 2) != NULL ? at : NULL;
}

/* Puts the events of a read into reader->events and returns how many: 0 where it holds anything but whole events in
 * whole chunks, -1 with an exception set. */
static Py_ssize_t parse(Reader *reader, const Stream *stream, const char *at, const char *end, Bytes *prefix)
{
    size_t n = 0;
    while (at < end) {
        const char *stop = end;
        if (stream->chunked) {
            size_t chunk;
            at = after_chunk_head(at, end, &chunk);
            if (at == NULL)
                return 0;
            stop = at + chunk;
        }
        while (at < stop) {
            if (n == reader->events_size) {
                size_t larger = n ? 2 * n : 64;
                Event *events = PyMem_Realloc(reader->events, larger * sizeof *events);
                if (events == NULL) {
                    PyErr_NoMemory();
                    return -1;
                }
                reader->events = events;
                reader->events_size = larger;
            }
            at = after_event(stream, at, stop, prefix, &reader->events[n]);
            if (at == NULL)
                return 0;
            n++;
        }
        if (stream->chunked)
            at += 2;
    }
    return (Py_ssize_t)n;
}

/* Records. */

static char *put_int64(char *at, int64_t value)
{
    memcpy(at, &value, sizeof value);
    return at + sizeof value;
}

/* Appends rows as records.buffers.CHUNK_ROW lays them out; all but the last are coalesced. */
static int append_rows(Reader *reader, const Stream *stream, Py_ssize_t n, const Read *read)
{
    Py_ssize_t size = PyByteArray_GET_SIZE(stream->sink);
    if (PyByteArray_Resize(stream->sink, size + n * ROW_BYTES) < 0)
        return -1;
    char *at = PyByteArray_AS_STRING(stream->sink) + size;
    for (Py_ssize_t i = 0; i < n; i++) {
        at = put_int64(at, stream->index);
        at = put_int64(at, read->t_ns);
        at = put_int64(at, reader->events[i].tokens);
        at = put_int64(at, reader->events[i].bytes);
        *at++ = (char)stream->channel;
        at = put_int64(at, read->lag_ns);
        *at++ = i + 1 < n;
    }
    return 0;
}

static int call_sink(Reader *reader, const Stream *stream, Py_ssize_t n, const Read *read)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *done = PyObject_CallFunction(
            stream->sink, "LLLLLLO", (long long)stream->index, (long long)read->t_ns,
            (long long)reader->events[i].tokens, (long long)reader->events[i].bytes, (long long)stream->channel,
            (long long)read->lag_ns, i + 1 < n ? Py_True : Py_False);
        if (done == NULL)
            return -1;
        Py_DECREF(done);
    }
    return 0;
}

/* Notes the first tokens of a reply, as Reply.stamp does. */
static int take_first(Reader *reader, Stream *stream, Py_ssize_t n, const Read *read, const Bytes *prefix)
{
    stream->prefix.owner = PyBytes_FromStringAndSize(prefix->data, (Py_ssize_t)prefix->size);
    if (stream->prefix.owner == NULL)
        return -1;
    stream->prefix.data = PyBytes_AS_STRING(stream->prefix.owner);
    stream->prefix.size = prefix->size;
    stream->first_ns = read->t_ns;
    stream->first_tokens = reader->events[0].tokens;
    int64_t since_ns = read->t_ns - stream->previous_ns;
    stream->first_error_ns = n > 1 && since_ns > 0 ? since_ns : 0;
    return 0;
}

/* Records a read: 1 taken, 0 left to others, -1 exception. */
static int take(Reader *reader, Stream *stream, const Read *read)
{
    const char *at = reader->buffer, *end = at + read->size;
    if (stream->awaits_head && (at = after_bytes(at, end, stream->head.data, stream->head.size)) == NULL)
        return 0;
    Bytes prefix = stream->prefix;
    Py_ssize_t n = parse(reader, stream, at, end, &prefix);
    if (n < 0 || (n == 0 && !(stream->awaits_head && at == end)))
        return (int)n;
    bool packed = PyByteArray_Check(stream->sink);
    if (n > 0 && stream->prefix.data == NULL && take_first(reader, stream, n, read, &prefix) < 0)
        return -1;
    if ((packed ? append_rows : call_sink)(reader, stream, n, read) < 0)
        return -1;
    for (Py_ssize_t i = 0; stream->between.data != NULL && i < n; i++)
        stream->tokens += reader->events[i].tokens;
    if (stream->awaits_head)
        stream->headers_ns = read->t_ns;
    stream->awaits_head = false;
    stream->reads++;
    stream->events += n;
    stream->last_ns = stream->previous_ns = read->t_ns;
    if (read->lag_ns > stream->lag_max_ns)
        stream->lag_max_ns = read->lag_ns;
    return 1;
}

/* Reading. */

/* Reads once into reader->buffer and dates the read as stamps.py does; false where there was nothing to read. */
static bool receive(Reader *reader, int fd, int64_t epoch_ns, Read *read)
{
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(struct timespec))];
    } control;
    struct iovec into = {.iov_base = reader->buffer, .iov_len = READ_BYTES};
    struct msghdr message = {
        .msg_iov = &into, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    read->size = recvmsg(fd, &message, MSG_DONTWAIT);
    read->error = read->size < 0 ? errno : 0;
    /* Both clocks at once: were this process stopped between the two, the read would be dated as much too early. */
    int64_t now_ns = now_of(CLOCK_MONOTONIC), wall_ns = now_of(CLOCK_REALTIME) + reader->wall_step_ns;
    read->t_ns = now_ns - epoch_ns;
    read->lag_ns = 0;
    if (read->size < 0) {
        read->size = 0;
        return read->error != EAGAIN && read->error != EWOULDBLOCK && read->error != EINTR;
    }
    reader->reads++;
    for (struct cmsghdr *each = CMSG_FIRSTHDR(&message); each != NULL; each = CMSG_NXTHDR(&message, each)) {
        if (each->cmsg_level != SOL_SOCKET || each->cmsg_type != SCM_TIMESTAMPNS)
            continue;
        struct timespec stamp;
        memcpy(&stamp, CMSG_DATA(each), sizeof stamp);
        int64_t lag_ns = wall_ns - ((int64_t)stamp.tv_sec * 1000000000 + stamp.tv_nsec);
        if (lag_ns >= 0 && lag_ns <= BELIEVABLE_LAG_NS) {
            read->t_ns -= lag_ns;
            read->lag_ns = lag_ns;
        } else {
            reader->clock_steps++;
        }
        return true;
    }
    reader->unstamped += read->size > 0; /* the read at the end of the stream never has a stamp */
    return true;
}

static int append_new(PyObject *list, PyObject *item)
{
    if (item == NULL)
        return -1;
    int failed = PyList_Append(list, item);
    Py_DECREF(item);
    return failed;
}

/* Looks at one ready socket; what is not taken goes to `handed`. */
static int serve(Reader *reader, const struct epoll_event *event, int64_t epoch_ns, PyObject *handed)
{
    int fd = event->data.fd;
    Stream *stream = (size_t)fd < reader->streams_size ? reader->streams[fd] : NULL;
    if (stream == NULL || !stream->active || !(event->events & READABLE))
        return append_new(handed, PyObject_CallFunction(reader->ready_type, "iI", fd, event->events));
    Read read;
    if (!receive(reader, fd, epoch_ns, &read))
        return 0;
    /* Bytes of a stream come in their order: a stop between the readings of two clocks must not turn it round. */
    if (read.t_ns < stream->previous_ns)
        read.t_ns = stream->previous_ns;
    int taken = read.size > 0 ? take(reader, stream, &read) : 0;
    if (taken != 0)
        return taken < 0 ? -1 : 0;
    stream->active = false;
    return append_new(handed, PyObject_CallFunction(reader->ready_type, "iIy#LLi", fd, event->events, reader->buffer,
                                                    (Py_ssize_t)read.size, (long long)read.t_ns,
                                                    (long long)read.lag_ns, read.error));
}

static int add_to(PyObject *object, const char *name, int64_t *amount)
{
    if (*amount == 0)
        return 0;
    PyObject *before = PyObject_GetAttrString(object, name);
    PyObject *more = before == NULL ? NULL : PyLong_FromLongLong(*amount);
    PyObject *sum = more == NULL ? NULL : PyNumber_Add(before, more);
    int failed = sum == NULL ? -1 : PyObject_SetAttrString(object, name, sum);
    Py_XDECREF(before);
    Py_XDECREF(more);
    Py_XDECREF(sum);
    if (!failed)
        *amount = 0;
    return failed;
}

static int64_t epoch_of(PyObject *clock)
{
    PyObject *epoch = PyObject_GetAttrString(clock, "epoch_ns");
    if (epoch == NULL)
        return -1;
    int64_t epoch_ns = PyLong_AsLongLong(epoch);
    Py_DECREF(epoch);
    return epoch_ns;
}

/* Looks at sockets that are ready, `most` at most; returns how many there were, -1 with an exception. */
static int look(Reader *reader, int most, int64_t epoch_ns, PyObject *handed)
{
    struct epoll_event found[MOST_SOCKETS];
    int n = epoll_wait(reader->epoll_fd, found, most, 0);
    if (n < 0 && errno != EINTR) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    for (int i = 0; i < n; i++)
        if (serve(reader, &found[i], epoch_ns, handed) < 0)
            return -1;
    return n < 0 ? 0 : n;
}

static PyObject *reader_poll(Reader *reader, PyObject *limit)
{
    long asked = PyLong_AsLong(limit);
    int64_t epoch_ns = PyErr_Occurred() ? -1 : epoch_of(reader->clock);
    if (PyErr_Occurred())
        return NULL;
    int most = asked < 1 ? 1 : asked > MOST_SOCKETS ? MOST_SOCKETS : (int)asked;
    PyObject *handed = PyList_New(0);
    if (handed == NULL)
        return NULL;
    reader->ready = 0;
    int n;
    do { /* as PythonPlainReader.poll: a burst, of two or more, goes on while it is read */
        n = look(reader, most - (int)reader->ready, epoch_ns, handed);
        reader->ready += n > 0 ? n : 0;
    } while (n > 0 && reader->ready > 1 && reader->ready < most && PyList_GET_SIZE(handed) == 0);
    if (n < 0 || add_to(reader->counters, "reads", &reader->reads) < 0 ||
        add_to(reader->counters, "unstamped", &reader->unstamped) < 0 ||
        add_to(reader->counters, "clock_steps", &reader->clock_steps) < 0) {
        Py_DECREF(handed);
        return NULL;
    }
    return handed;
}

/* Streams. */

static void free_stream(Stream *stream)
{
    if (stream == NULL)
        return;
    Py_XDECREF(stream->prefix.owner);
    Py_XDECREF(stream->between.owner);
    Py_XDECREF(stream->suffix.owner);
    Py_XDECREF(stream->head.owner);
    Py_XDECREF(stream->before_id.owner);
    Py_XDECREF(stream->before_created.owner);
    Py_XDECREF(stream->before_text.owner);
    Py_XDECREF(stream->sink);
    PyMem_Free(stream);
}

/* Owns the attribute, which is bytes; one that is None leaves `bytes` empty. */
static int own(Bytes *bytes, PyObject *of, const char *name)
{
    PyObject *value = PyObject_GetAttrString(of, name);
    if (value == NULL)
        return -1;
    if (value == Py_None) {
        Py_DECREF(value);
        return 0;
    }
    bytes->owner = value;
    bytes->data = PyBytes_AsString(value);
    if (bytes->data == NULL)
        return -1;
    bytes->size = (size_t)PyBytes_GET_SIZE(value);
    return 0;
}

/* Fills in what all events have in common, and where rows go. shape: wire.openai.Shape or opening.Opening. */
static int fill_stream(Stream *stream, PyObject *shape, PyObject *sink)
{
    PyObject *channel = PyObject_GetAttrString(shape, "channel");
    if (channel == NULL)
        return -1;
    stream->channel = PyLong_AsLongLong(channel);
    Py_DECREF(channel);
    if (PyErr_Occurred() || own(&stream->between, shape, "between") < 0 || own(&stream->suffix, shape, "raw_suffix") < 0)
        return -1;
    if (stream->suffix.data == NULL) {
        PyErr_SetString(PyExc_TypeError, "events need a suffix");
        return -1;
    }
    stream->sink = PyObject_GetAttrString(sink, "packed");
    if (stream->sink != NULL && !PyByteArray_Check(stream->sink))
        Py_SETREF(stream->sink, PyObject_GetAttrString(sink, "add"));
    return stream->sink == NULL ? -1 : 0;
}

static int make_room(Reader *reader, size_t fd)
{
    if (fd < reader->streams_size)
        return 0;
    size_t larger = fd + 64 > 2 * reader->streams_size ? fd + 64 : 2 * reader->streams_size;
    Stream **streams = PyMem_Realloc(reader->streams, larger * sizeof *streams);
    if (streams == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memset(streams + reader->streams_size, 0, (larger - reader->streams_size) * sizeof *streams);
    reader->streams = streams;
    reader->streams_size = larger;
    return 0;
}

/* A stream without its form, not yet watched; NULL with an exception. */
static Stream *new_stream(long long index, bool chunked)
{
    Stream *stream = PyMem_Calloc(1, sizeof *stream);
    if (stream == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    stream->index = index;
    stream->chunked = chunked;
    stream->active = true;
    stream->last_ns = stream->lag_max_ns = stream->headers_ns = stream->previous_ns = NEVER_SEEN;
    stream->first_ns = stream->first_tokens = stream->first_error_ns = NEVER_SEEN;
    return stream;
}

/* Takes the stream, or frees it where it could not be filled in. */
static PyObject *watch(Reader *reader, int fd, Stream *stream, int failed)
{
    if (failed || make_room(reader, (size_t)fd) < 0) {
        free_stream(stream);
        return NULL;
    }
    free_stream(reader->streams[fd]);
    reader->streams[fd] = stream;
    Py_RETURN_NONE;
}

static PyObject *reader_begin(Reader *reader, PyObject *args)
{
    PyObject *sock, *shape, *sink;
    long long index;
    int chunked;
    if (!PyArg_ParseTuple(args, "OLOpO:begin", &sock, &index, &shape, &chunked, &sink))
        return NULL;
    int fd = PyObject_AsFileDescriptor(sock);
    if (fd < 0)
        return NULL;
    Stream *stream = new_stream(index, chunked);
    if (stream == NULL)
        return NULL;
    int failed = own(&stream->prefix, shape, "raw_prefix") < 0 || fill_stream(stream, shape, sink) < 0;
    if (!failed && stream->prefix.data == NULL) {
        PyErr_SetString(PyExc_TypeError, "events need a prefix");
        failed = 1;
    }
    return watch(reader, fd, stream, failed);
}

static PyObject *reader_open(Reader *reader, PyObject *args)
{
    PyObject *sock, *opening, *sink;
    long long index, previous_ns;
    int awaits_head;
    if (!PyArg_ParseTuple(args, "OLOLOp:open", &sock, &index, &opening, &previous_ns, &sink, &awaits_head))
        return NULL;
    int fd = PyObject_AsFileDescriptor(sock);
    if (fd < 0)
        return NULL;
    Stream *stream = new_stream(index, true);
    if (stream == NULL)
        return NULL;
    stream->previous_ns = previous_ns;
    stream->awaits_head = awaits_head;
    int failed = own(&stream->head, opening, "head") < 0 || own(&stream->before_id, opening, "before_id") < 0 ||
                 own(&stream->before_created, opening, "before_created") < 0 ||
                 own(&stream->before_text, opening, "before_text") < 0 || fill_stream(stream, opening, sink) < 0;
    if (!failed && (stream->head.data == NULL || stream->before_id.data == NULL ||
                    stream->before_created.data == NULL || stream->before_text.data == NULL)) {
        PyErr_SetString(PyExc_TypeError, "an opening needs a head and a first event");
        failed = 1;
    }
    return watch(reader, fd, stream, failed);
}

static PyObject *reader_end(Reader *reader, PyObject *arg)
{
    long fd = PyLong_AsLong(arg);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    if (fd < 0 || (size_t)fd >= reader->streams_size || reader->streams[fd] == NULL) {
        PyErr_SetObject(PyExc_KeyError, arg);
        return NULL;
    }
    Stream *stream = reader->streams[fd];
    reader->streams[fd] = NULL;
    PyObject *prefix = stream->first_ns != NEVER_SEEN ? stream->prefix.owner : Py_None;
    PyObject *taken = PyObject_CallFunction(
        reader->taken_type, "LLLLLLLLLO", (long long)stream->reads, (long long)stream->events,
        (long long)(stream->between.data == NULL ? NEVER_SEEN : stream->tokens), (long long)stream->last_ns, (long long)stream->lag_max_ns,
        (long long)stream->headers_ns, (long long)stream->first_ns, (long long)stream->first_tokens,
        (long long)stream->first_error_ns, prefix);
    free_stream(stream);
    return taken;
}

/* The type and the module. */

static int reader_init(Reader *reader, PyObject *args, PyObject *named)
{
    PyObject *clock, *counters, *ready_type, *taken_type;
    int epoll_fd;
    if (named != NULL && PyDict_GET_SIZE(named)) {
        PyErr_SetString(PyExc_TypeError, "PlainReader takes no names");
        return -1;
    }
    if (!PyArg_ParseTuple(args, "iOOOO:PlainReader", &epoll_fd, &clock, &counters, &ready_type, &taken_type))
        return -1;
    if (reader->buffer == NULL && (reader->buffer = PyMem_Malloc(READ_BYTES)) == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    reader->epoll_fd = epoll_fd;
    Py_XSETREF(reader->clock, Py_NewRef(clock));
    Py_XSETREF(reader->counters, Py_NewRef(counters));
    Py_XSETREF(reader->ready_type, Py_NewRef(ready_type));
    Py_XSETREF(reader->taken_type, Py_NewRef(taken_type));
    return 0;
}

static void reader_dealloc(Reader *reader)
{
    for (size_t fd = 0; fd < reader->streams_size; fd++)
        free_stream(reader->streams[fd]);
    PyMem_Free(reader->streams);
    PyMem_Free(reader->events);
    PyMem_Free(reader->buffer);
    Py_XDECREF(reader->clock);
    Py_XDECREF(reader->counters);
    Py_XDECREF(reader->ready_type);
    Py_XDECREF(reader->taken_type);
    Py_TYPE(reader)->tp_free((PyObject *)reader);
}

static PyMethodDef reader_methods[] = {
    {"poll", (PyCFunction)reader_poll, METH_O, "Read the plain streams that are ready; what others must look at."},
    {"begin", (PyCFunction)reader_begin, METH_VARARGS, "Take the reads of a stream: sock, index, shape, chunked, sink."},
    {"open", (PyCFunction)reader_open, METH_VARARGS, "Take a reply from its beginning on: sock, index, opening, previous_ns, sink, awaits_head."},
    {"end", (PyCFunction)reader_end, METH_O, "Take no more reads of a descriptor; what was taken."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef reader_members[] = {
    {"ready", T_PYSSIZET, offsetof(Reader, ready), READONLY, "Sockets that the last poll found ready."},
    {"wall_step_ns", T_LONGLONG, offsetof(Reader, wall_step_ns), 0, "For tests: a step of the wall clock."},
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject reader_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "slobench.generate._receive.PlainReader",
    .tp_basicsize = sizeof(Reader),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "PlainReader(epoll_fd, clock, counters, Ready, Taken): see plain.py.",
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)reader_init,
    .tp_dealloc = (destructor)reader_dealloc,
    .tp_methods = reader_methods,
    .tp_members = reader_members,
};

/* set_timer(fd, due_ns): pacer.SetTimer. */
static PyObject *set_timer(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    if (n != 2)
        return PyErr_Format(PyExc_TypeError, "set_timer takes a descriptor and a time, not %zd arguments", n);
    long fd = PyLong_AsLong(args[0]);
    long long due_ns = PyErr_Occurred() ? -1 : PyLong_AsLongLong(args[1]);
    if (PyErr_Occurred())
        return NULL;
    struct itimerspec setting = {.it_value = {.tv_sec = due_ns / 1000000000, .tv_nsec = due_ns % 1000000000}};
    if (timerfd_settime((int)fd, TFD_TIMER_ABSTIME, &setting, NULL) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyMethodDef module_functions[] = {
    {"set_timer", (PyCFunction)(void (*)(void))set_timer, METH_FASTCALL, "Let a timerfd come at a time; 0: never."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "slobench.generate._receive",
    .m_doc = "Receives, stamps and frames plain streams; plain.py is its twin.",
    .m_size = -1,
    .m_methods = module_functions,
};

PyMODINIT_FUNC PyInit__receive(void)
{
    if (PyType_Ready(&reader_type) < 0)
        return NULL;
    PyObject *kind = PyUnicode_FromString("native");
    if (kind == NULL || PyDict_SetItemString(reader_type.tp_dict, "kind", kind) < 0) {
        Py_XDECREF(kind);
        return NULL;
    }
    Py_DECREF(kind);
    PyType_Modified(&reader_type);
    PyObject *made = PyModule_Create(&module);
    if (made == NULL || PyModule_AddIntConstant(made, "VERSION", 3) < 0 ||
        PyModule_AddObjectRef(made, "PlainReader", (PyObject *)&reader_type) < 0) {
        Py_XDECREF(made);
        return NULL;
    }
    return made;
}
