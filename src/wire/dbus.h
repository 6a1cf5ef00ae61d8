/* The little of D-Bus that talking to systemd takes (https://dbus.freedesktop.org/doc/dbus-specification.html):
 * messages to bytes and bytes to messages, the way in (SASL EXTERNAL), addresses. Bytes only: whoever owns the
 * socket is elsewhere (runtime/systemd_bus.c). Pure.
 *
 * What is written is in this machine's byte order; what is read may be in either. A message that was read is
 * valid in all its parts: every text UTF-8 and ended by a NUL, every length inside, the body as its signature
 * says. Passed fds are not spoken. */
#ifndef KNARR_WIRE_DBUS_H
#define KNARR_WIRE_DBUS_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

enum { DBUS_MESSAGE_MAX = 1 << 20, DBUS_DEPTH_MAX = 32, DBUS_SIGNATURE_MAX = 255 };
enum dbus_type { DBUS_CALL = 1, DBUS_REPLY = 2, DBUS_ERROR = 3, DBUS_SIGNAL = 4 };

/* --- the way in ------------------------------------------------------------------------------------ */

/* What a client sends first. The server takes our credentials from the socket, so no user is named; the
 * messages may follow at once. */
#define DBUS_HELLO_BYTES "\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n"
/* Looks at the server's lines: *used of the bytes were theirs; *done: we are in, messages follow. ERR_DENIED:
 * it refuses. */
int dbus_auth_read(struct str bytes, size_t *used, bool *done, struct err *e);

struct dbus_address {
	const char *path;       /* of a unix socket */
	bool abstract;          /* not in the file system */
};
/* The first address of the list "unix:path=/run/x,guid=1;unix:abstract=y" that names a unix socket.
 * ERR_UNIMPLEMENTED: it has others only. */
int dbus_address_read(struct arena *a, const char *list, struct dbus_address *out, struct err *e);

/* --- values ---------------------------------------------------------------------------------------- */

/* Whether it is the signature of one complete type. */
bool dbus_is_type(const char *signature);

/* A value of any type but dictionaries: what the first letter of the signature says is used. */
struct dbus_value {
	const char *signature;  /* one complete type */
	uint64_t n;             /* y n q i u x t b (negative numbers as two's complement) */
	double d;
	const char *text;       /* s o g */
	const struct dbus_value *items; /* of an array or a struct; of a variant: one */
	size_t nitems;
};

/* The text form of GLib's GVariant, which annotations have: 'text', true, 7, uint64 7, @as [], ['a', 'b'], (1, 'a').
 * ERR_INVALID says where. Dictionaries, variants, object paths and byte strings are not taken. */
int dbus_value_parse(struct arena *a, const char *text, struct dbus_value *out, struct err *e);

/* --- writing --------------------------------------------------------------------------------------- */

struct dbus_call {
	const char *destination, *path, *interface, *member;
	const char *signature;  /* of the body; "" */
};
struct dbus_writer {
	struct buf *b;
	size_t start, body;     /* where the message and its body begin in b */
	bool full;              /* the buffer's maximum was met */
};
struct dbus_array {
	size_t length_at, first;
};

/* Appends a method call to b, whose bytes so far must be whole messages. Between begin and end come the
 * values, as the signature says. dbus_write_end(): ERR_EXHAUSTED past b's maximum; b is as before then. */
void dbus_write_begin(struct dbus_writer *w, struct buf *b, uint32_t serial, const struct dbus_call *c);
int dbus_write_end(struct dbus_writer *w, struct err *e);
void dbus_write_u32(struct dbus_writer *w, uint32_t v); /* also b, i */
void dbus_write_text(struct dbus_writer *w, const char *text); /* s, o */
void dbus_write_signature(struct dbus_writer *w, const char *text);
void dbus_write_struct(struct dbus_writer *w); /* a struct begins; its members follow */
struct dbus_array dbus_write_array(struct dbus_writer *w, char element); /* the elements' first letter */
void dbus_write_array_end(struct dbus_writer *w, struct dbus_array at);
void dbus_write_value(struct dbus_writer *w, const struct dbus_value *v);
void dbus_write_variant(struct dbus_writer *w, const struct dbus_value *v); /* v: what is in it */

/* --- reading --------------------------------------------------------------------------------------- */

struct dbus_message {
	enum dbus_type type;
	uint32_t serial, reply_to; /* reply_to: 0: none */
	const char *path, *interface, *member, *error, *sender; /* "" where there is none */
	const char *signature;
	struct str body;
	bool swapped;           /* in the other byte order */
};
/* The message at the front of the bytes, copied into the arena. *used: how many bytes it had; 0: it is not whole
 * yet. ERR_INVALID: this is no D-Bus, or a message longer than DBUS_MESSAGE_MAX. */
int dbus_message_read(struct arena *a, struct str bytes, struct dbus_message *out, size_t *used, struct err *e);

/* The body's values, one after the other. ERR_INVALID where the signature has another one. */
struct dbus_reader {
	const char *p, *signature;
	size_t pos, end;
	bool swapped;
};
struct dbus_reader dbus_body(const struct dbus_message *m);
int dbus_read_u32(struct dbus_reader *r, uint32_t *out, struct err *e); /* u */
int dbus_read_text(struct dbus_reader *r, const char **out, struct err *e); /* s, o, g; lives as the message */
int dbus_read_variant(struct dbus_reader *r, struct dbus_reader *out, struct err *e);

#endif
