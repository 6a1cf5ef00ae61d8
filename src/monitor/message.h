/* The messages between knarrd and knarr-pod: one SOCK_SEQPACKET packet each, a fixed header and then
 * fields of tag, length and value. docs/formats/monitor.md is the manual of the protocol.
 *
 * Pure: bytes in, fields out; no I/O, no allocation. A parsed message points into the caller's bytes.
 * The class of a field is part of its tag, so that a reader can check the form of fields it does not
 * know, and skip them: that is how versions stay able to talk to each other. */
#ifndef KNARR_MONITOR_MESSAGE_H
#define KNARR_MONITOR_MESSAGE_H

#include "base/err.h"
#include "base/str.h"

/* A test builds a knarrd of the next version with another number here. */
#ifndef MONITOR_PROTOCOL
#define MONITOR_PROTOCOL 2
#endif

enum {
	MESSAGE_MAGIC = 0x314d4e4b, /* "KNM1" */
	MESSAGE_VERSION = MONITOR_PROTOCOL, /* what this side speaks; see MONITOR_OP_HELLO */
	MESSAGE_MAX = 32 * 1024,    /* a packet; a longer body travels in a memfd */
	MESSAGE_BODY_MAX = 4 * 1024 * 1024,
	MESSAGE_HEADER_BYTES = 16,
};

/* What is asked. An answer carries the op it answers. */
#define MONITOR_OPS(X)                                                    \
	X(HELLO, 1)      /* who are you: pid, start ticks, version */     \
	X(SETUP, 2)      /* the first message after birth, and only then */ \
	X(SYSCTLS, 3)                                                     \
	X(START, 4)                                                       \
	X(KILL, 5)                                                        \
	X(REOPEN_LOG, 6)                                                  \
	X(LIST, 7)       /* one answer a container, then one with DONE */ \
	X(FORGET, 8)                                                      \
	X(EXEC_SYNC, 9)                                                   \
	X(SUBSCRIBE, 10) /* from then on the connection carries events */ \
	X(EVENT, 11)     /* never asked: told to subscribers */           \
	X(SHUTDOWN, 12)                                                   \
	X(EXEC_STREAM, 13) /* since 2: the connection is the session's */ \
	X(ATTACH, 14)      /* since 2: the connection is the session's */ \
	X(RESIZE_TTY, 15)  /* reserved: answered UNIMPLEMENTED */         \
	X(SOCKETS, 16)     /* since 2: of the pod's network namespace */

enum monitor_op {
#define X(name, number) MONITOR_OP_##name = (number),
	MONITOR_OPS(X)
#undef X
	MONITOR_OP_COUNT
};

enum message_flag {
	MESSAGE_ANSWER = BIT(0),
	MESSAGE_ERROR = BIT(1),      /* an answer: fields ERR_* say what went wrong */
	MESSAGE_MORE = BIT(2),       /* an answer: more of the same follow */
	MESSAGE_BODY_IN_FD = BIT(3), /* the fields are in the first fd passed, a sealed memfd */
};

/* The class is the tag's high byte: number (8 bytes, little endian), text (NUL-terminated, no NUL
 * within), fd (a number: its place among the fds passed), bytes. */
enum { MESSAGE_NUMBER = 0x1000, MESSAGE_TEXT = 0x2000, MESSAGE_FD = 0x3000, MESSAGE_BYTES = 0x4000,
       MESSAGE_CLASS = 0xf000 };

enum message_tag {
	TAG_ERR_CODE = MESSAGE_NUMBER + 1, /* a gRPC status code: stable over versions */
	TAG_ERR_SYS,
	TAG_PROTOCOL_LEAST, TAG_PROTOCOL_MOST,
	TAG_PID, TAG_START_TICKS, TAG_INIT_PID,
	TAG_NAMESPACES,                    /* enum monitor_ns */
	TAG_OOM_SCORE_ADJ,
	TAG_FLAGS,
	TAG_SIGNAL, TAG_KILL_WHAT,
	TAG_STATE, TAG_STARTED_NS, TAG_FINISHED_NS, TAG_EXIT_CODE, TAG_EXIT_SIGNAL, TAG_OOM_KILLED,
	TAG_TIMEOUT_NS, TAG_OUTPUT_MAX, TAG_TIMED_OUT, TAG_CUT,
	TAG_MOUNT,                         /* followed by its TAG_MOUNT_FD */
	TAG_OUT_BYTES, TAG_ERR_BYTES,      /* lengths of the two parts of TAG_OUTPUT_FD's file */
	TAG_WIDTH, TAG_HEIGHT,             /* of a terminal, in characters */

	TAG_ERR_TEXT = MESSAGE_TEXT + 1,
	TAG_POD_ID, TAG_CONTAINER_ID,
	TAG_HOSTNAME,
	TAG_SYSCTL_KEY, TAG_SYSCTL_VALUE,  /* in pairs */
	TAG_CGROUP,
	TAG_BUNDLE,
	TAG_ARG,                           /* argv, one by one */
	TAG_REASON, TAG_MESSAGE,
	TAG_VERSION_TEXT,
	TAG_HANDLER_PATH, TAG_HANDLER_ROOT, TAG_HANDLER_DIR,
	TAG_HANDLER_ARG,                   /* one by one */

	TAG_LISTEN_FD = MESSAGE_FD + 1,
	TAG_STATE_DIR_FD,
	TAG_CGROUP_ROOT_FD,                /* of each hierarchy, in TAG_CGROUP_LAYOUT's order */
	TAG_NET_FD, TAG_IPC_FD, TAG_UTS_FD, TAG_PIDNS_FD,
	TAG_CONFIG_FD, TAG_ROOT_FD, TAG_MOUNT_FD, TAG_LOG_FD,
	TAG_OUTPUT_FD, TAG_ERROUT_FD,
	TAG_USERNS_FD,
	TAG_SESSION_IN_FD, TAG_SESSION_OUT_FD, TAG_SESSION_ERR_FD, TAG_SESSION_TTY_FD,
	TAG_INET_FD, TAG_INET6_FD,
	TAG_HANDLER_DIR_FD,
	TAG_HANDLER_MOUNT_NS_FD,
	TAG_HANDLER_NS_FD,                 /* each of the others */

	TAG_OUTPUT = MESSAGE_BYTES + 1,
	TAG_ERROUT,
	TAG_CGROUP_LAYOUT,                 /* struct cgroup_layout, as knarrd has it in memory */
	TAG_UID_MAP, TAG_GID_MAP,          /* struct idmap, one after the other */
};

/* TAG_FLAGS of EXEC_STREAM and ATTACH. */
enum session_flag {
	SESSION_IN = BIT(0), SESSION_OUT = BIT(1), SESSION_ERR = BIT(2),
	SESSION_TTY = BIT(3),   /* EXEC_STREAM */
	SESSION_PACED = BIT(4), /* ATTACH: the container waits for this client */
	SESSION_EARLY = BIT(5), /* ATTACH: to what will be started */
};

/* --- reading --------------------------------------------------------------------------------------- */

struct message {
	unsigned version, op, flags;
	struct str fields; /* checked; empty while MESSAGE_BODY_IN_FD: then message_parse_body() */
};

/* Checks header and every field's form. ERR_INVALID says what is wrong. */
int message_parse(struct str packet, struct message *out, struct err *e);
/* The fields that came in a memfd. */
int message_parse_body(struct str body, struct message *m, struct err *e);

struct message_field {
	unsigned tag;
	uint64_t number;  /* of a number or fd field */
	struct str bytes; /* of a text (without its NUL, which follows) or bytes field */
};
/* Walks the fields of a parsed message: `struct str rest = m->fields; while (message_next(&rest, &f))` */
bool message_next(struct str *rest, struct message_field *f);
/* The first such field, or the default. Texts are NUL-terminated. */
uint64_t message_number(const struct message *m, unsigned tag, uint64_t otherwise);
const char *message_text(const struct message *m, unsigned tag, const char *otherwise);
struct str message_bytes(const struct message *m, unsigned tag);
/* The text, or ERR_INVALID where it is absent or empty. */
int message_need_text(const struct message *m, unsigned tag, const char *name, const char **out,
		      struct err *e);

/* --- writing --------------------------------------------------------------------------------------- */

/* Fields that do not fit set `full`; message_finish() then fails, once, with ERR_EXHAUSTED. */
struct message_writer {
	char *p;
	size_t len, max;
	bool full;
};
void message_begin(struct message_writer *w, void *space, size_t max, unsigned op, unsigned flags);
void message_add_number(struct message_writer *w, unsigned tag, uint64_t value);
void message_add_text(struct message_writer *w, unsigned tag, const char *text);
void message_add_bytes(struct message_writer *w, unsigned tag, struct str bytes);
/* Writes the length into the header. *out: the packet. */
int message_finish(struct message_writer *w, struct str *out, struct err *e);

/* An answer that carries an error, and back. message_error() returns -1 with the error set where the
 * answer is one, else 0. */
void message_write_error(struct message_writer *w, void *space, size_t max, unsigned op,
			 const struct err *error);
int message_error(const struct message *m, struct err *e);

const char *monitor_op_name(unsigned op); /* "unknown" for one we do not know */

#endif
