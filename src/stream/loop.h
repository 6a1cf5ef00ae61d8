/* What the files of src/stream share: the one loop, its sources and its connections. Everything here belongs to the
 * loop's thread but for `tickets` and the opener's queues. */
#ifndef KNARR_STREAM_LOOP_H
#define KNARR_STREAM_LOOP_H

#include "base/buf.h"
#include "base/list.h"
#include "base/thread.h"
#include "stream/ticket.h"
#include "stream/tls.h"
#include "wire/base64.h"
#include "wire/http_head.h"
#include "wire/spdy.h"
#include "wire/websocket.h"

#include <pthread.h>

enum {
	PIECE_BYTES = 64 * 1024,     /* read at once */
	UNSENT_HIGH = 128 * 1024,    /* to a client: above it, nothing is read for it */
	PENDING_HIGH = SPDY_WINDOW,  /* to a pipe: above it, the client is not read */
	FORWARDS_MAX = 1000,         /* of one client */
	CONNS_MAX = 4000,
};

/* --- the loop (server.c) ----------------------------------------------------------------------------- */

struct source {
	void (*ready)(struct source *s, uint32_t events);
	int fd;                      /* not owned; -1: none yet */
	uint32_t watched;            /* epoll's events; 0: not watched, and an event of this round is dropped */
};

/* Memory that an event of this round may still point to: freed after it. */
struct grave {
	struct list link;
	void (*bury)(struct grave *g);
};

struct opener {
	struct lock lock;
	struct cond idle;
	struct list queue, done;
	unsigned threads, unfinished;
	int event_fd;
};

struct streams {
	struct tickets tickets;
	struct pods *pods;
	int64_t idle_ns;
	struct tls *tls;             /* NULL: none */
	char *url;                   /* "http://127.0.0.1:40123" */
	pthread_t thread;
	int epoll_fd, listen_fd, stop_fd;
	struct source listener, opened, stop;
	struct opener opener;
	struct list conns, dirty, graves;
	size_t nconns;
	bool stopping, accepting;
	char in[PIECE_BYTES], piece[PIECE_BYTES], coded[PIECE_BYTES / 3 * 4 + 16];
};

void source_watch(struct streams *s, struct source *src, uint32_t events);
void grave_add(struct streams *s, struct grave *g, void (*fn)(struct grave *g));

/* --- what blocks (opener.c) -------------------------------------------------------------------------- */

struct opening {
	struct list link;
	struct call call;
	struct streams *server;
	struct ticket *ticket;
	uint16_t port;               /* TICKET_PORTS */
	unsigned width, height;
	void (*done)(struct opening *o); /* in the loop's thread; NULL: nobody waits any more */
	void *owner;
	/* the result; what `done` does not move out is closed */
	int rc;
	struct err e;
	struct session session;
	int fd;
};

struct opening *opening_new(struct streams *s, struct ticket *t, void (*done)(struct opening *o), void *owner);
void opening_submit(struct opening *o);
void opening_abandon(struct opening **o); /* NULL inside is fine */
int opener_init(struct opener *o, struct err *e);
void opener_collect(struct streams *s);
void opener_free(struct opener *o);

/* --- connections (conn.c, upgrade.c) ----------------------------------------------------------------- */

struct conn;

/* Who uses a connection after its upgrade. A channel is a SPDY stream's ID, or a WebSocket's channel. */
struct conn_user {
	void (*begin)(struct conn *c);
	bool (*opened)(struct conn *c, uint32_t channel, const struct spdy_header *h, size_t n);
	void (*data)(struct conn *c, uint32_t channel, const char *bytes, size_t n);
	void (*ended)(struct conn *c, uint32_t channel);
	void (*reset)(struct conn *c, uint32_t channel);
	void (*tick)(struct conn *c, int64_t now_ns);
	void (*fail)(struct conn *c, const struct err *why); /* ends it by our will: tells the client, and finishes */
	void (*gone)(struct conn *c); /* lets go of all; no source of it is watched afterwards */
};
extern const struct conn_user command_user, forward_user;

enum conn_mode { CONN_HEAD, CONN_SPDY, CONN_WEBSOCKET, CONN_TUNNEL };

struct conn {
	struct source source;
	struct list link, dirty;
	struct grave grave;
	struct streams *server;
	struct tls_session *tls;
	enum conn_mode mode;
	struct buf head, out, tunnelled;
	size_t sent;
	struct spdy *spdy;
	struct websocket ws;
	unsigned version;            /* of the remotecommand protocol */
	bool base64;
	struct base64_reader decoder;
	int channel;                 /* of the message that is being read; -1: its number comes first */
	struct ticket *ticket;
	const struct conn_user *user;
	void *session;               /* the user's */
	struct list waiting;         /* relays that wait for room */
	unsigned blocked;            /* relays that hold more than PENDING_HIGH */
	bool dead, finished, read_again;
	int64_t deadline_ns;         /* of the head, of the streams, of the end; 0: none */
	int64_t active_ns, pong_ns;
};

void conn_new(struct streams *s, int fd);
void conn_tick(struct conn *c, int64_t now_ns);
void conn_round_ends(struct conn *c); /* sends, watches */
void conn_mark_dirty(struct conn *c);
/* Ends it now: the client has vanished, or broken the rules. */
void conn_drop(struct conn *c);
/* Ends it now, with last words: knarrd ends. */
void conn_stop(struct conn *c, const struct err *why);
/* All is said: the client gets it and closes. */
void conn_finish(struct conn *c);

size_t conn_room(struct conn *c, uint32_t channel);
void conn_send(struct conn *c, uint32_t channel, const char *bytes, size_t n); /* at most conn_room(); a few words always */
void conn_end(struct conn *c, uint32_t channel);
void conn_reset(struct conn *c, uint32_t channel);
void conn_consumed(struct conn *c, uint32_t channel, size_t n);
/* Bytes after the upgrade, from the client. */
void conn_input(struct conn *c, char *bytes, size_t n);

/* Answers the head: takes the ticket and changes the mode, or says what is wrong. */
void conn_upgrade(struct conn *c, const struct http_head *h);
void conn_say(struct conn *c, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* --- relays (relay.c) -------------------------------------------------------------------------------- */

/* From a pipe to a channel. */
struct relay_out {
	struct source source;
	struct list waiting;
	struct conn *conn;
	uint32_t channel;
	bool done, last; /* last: what is in the pipe now is all */
	void (*finished)(struct relay_out *r);
};
void relay_out_init(struct relay_out *r, struct conn *c, uint32_t channel, void (*finished)(struct relay_out *r));
void relay_out_start(struct relay_out *r, int fd);
void relay_out_pump(struct relay_out *r);
void relay_out_stop(struct relay_out *r);

/* From a channel to a pipe. What comes before it has an fd is kept. */
struct relay_in {
	struct source source;
	struct conn *conn;
	uint32_t channel;
	struct buf pending;
	size_t written;
	bool started, ending, done, blocks;
	void (*finished)(struct relay_in *r); /* all is written and the client has ended it; or nobody reads */
};
void relay_in_init(struct relay_in *r, struct conn *c, uint32_t channel, void (*finished)(struct relay_in *r));
void relay_in_start(struct relay_in *r, int fd); /* -1: what comes is dropped */
void relay_in_put(struct relay_in *r, const char *bytes, size_t n);
void relay_in_end(struct relay_in *r);
void relay_in_stop(struct relay_in *r);

#endif
