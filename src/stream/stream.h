/* The streaming server: what the URLs of the CRI's Exec, Attach and PortForward lead to (docs/inside/streaming.md).
 *
 * A URL carries a token that counts once and for a while; behind it are SPDY/3.1 (remotecommand v1 to v4,
 * portforward.k8s.io) and WebSocket (channel.k8s.io to v5, base64 forms, SPDY in a tunnel). One thread serves all
 * sessions; what may block (to begin an exec, to connect to a port) is done by a few threads that come and go.
 * Memory is bounded per session: a pipe is read no faster than its client takes it, a client no faster than the
 * pipe. A client that vanishes ends its exec, with all that it has started, and only detaches from an attach. */
#ifndef KNARR_STREAM_STREAM_H
#define KNARR_STREAM_STREAM_H

#include "pod/session.h"

struct streams;

struct stream_settings {
	const char *address;         /* "127.0.0.1:0", "[::1]:8443": an address of this node, port 0: any */
	const char *cert, *key;      /* PEM files; NULL: no TLS */
	const char *client_ca;       /* PEM file: clients must show a certificate by it; NULL: none is asked for */
	int64_t token_ns;            /* how long a URL may be used */
	int64_t idle_ns;             /* a session without data for so long is ended */
};

/* What is wrong with the settings, without touching a socket or a file: ERR_INVALID. An address that is not
 * loopback must have TLS and client_ca. */
int stream_settings_check(const struct stream_settings *s, struct err *e);

/* Listens and serves. The pods must outlive it; settings are copied. */
int streams_open(const struct stream_settings *settings, struct pods *pods, struct streams **out, struct err *e);
/* Ends all sessions and waits for its threads. NULL is fine. */
void streams_close(struct streams *s);

enum { STREAM_TOKENS_MAX = 1000 };
/* URLs for one session each, in the arena; from any thread. Nothing is begun before the URL is used: whether the
 * container runs is the caller's to check. ERR_EXHAUSTED: STREAM_TOKENS_MAX are waiting to be used. */
int stream_exec_url(struct streams *s, struct arena *a, const struct session_wish *w, const char **url, struct err *e);
int stream_attach_url(struct streams *s, struct arena *a, const struct session_wish *w, const char **url,
		      struct err *e);
struct stream_ports {
	const char *pod_id;
	const uint16_t *ports;
	size_t nports;
};
/* The ports are those of a WebSocket's channels; SPDY's streams name theirs. */
int stream_port_url(struct streams *s, struct arena *a, enum pod_owner owner, const struct stream_ports *p,
		    const char **url, struct err *e);

#endif
