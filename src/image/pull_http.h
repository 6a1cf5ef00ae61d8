/* One HTTP request at a time, with libcurl, straight-line and blocking: knarr-pull's alone. No
 * redirect is followed and no status is an error here: the caller decides (image/registry.h). */
#ifndef KNARR_IMAGE_PULL_HTTP_H
#define KNARR_IMAGE_PULL_HTTP_H

#include "base/buf.h"
#include "base/json.h"

struct http; /* one thread's, keeps its connections open */

enum { HTTP_BODY_MAX = 4 << 20, HTTP_HEADER_MAX = 65536 };

/* How to reach a server: the certificates are PEM bytes. */
struct http_tls {
	struct str ca;            /* p NULL: the system's */
	struct str cert, key;     /* p NULL: none */
	bool skip_verify;
};

struct http_reply {
	long status;
	char *content_type, *digest, *challenge, *location, *content_range;
	int64_t content_length;   /* -1: not said */
	int64_t retry_after_s;    /* -1: not said */
	struct str body;          /* of what went to no sink; at most HTTP_BODY_MAX, the rest is dropped */
	bool body_cut;
};

struct http_request {
	const char *url;
	const char *method;       /* "GET", "HEAD", "POST", "PUT" */
	const struct http_tls *tls;
	struct json_vec headers;  /* of struct json_pair */
	const char *authorization; /* NULL: none */
	const char *accept;       /* NULL: anything */
	const char *form;         /* POST's body */
	/* PUT's body: up to max bytes from `at` on, 0 < *n unless the end is reached; a -1 with *e ends the request. It may be
	 * asked from the start again. */
	int (*body)(void *ctx, int64_t at, void *bytes, size_t max, size_t *n, struct err *e);
	void *body_ctx;
	int64_t body_size;
	const char *content_type; /* of the body */
	int64_t range_from;       /* 0: from the start, without a Range header */
	int64_t connect_timeout_ns, idle_ns;
	/* For the body of a 200 or 206, NULL: it goes into the reply. -1 with *e ends the request. */
	int (*sink)(void *ctx, const struct http_reply *reply, const void *bytes, size_t n, struct err *e);
	void *sink_ctx;
};

int http_global_init(struct err *e);
/* Lives until the process ends. */
int http_new(struct arena *a, struct http **out, struct err *e);

/* What kind of failure, beside *e. */
enum http_failure {
	HTTP_OK,
	HTTP_BROKEN,      /* on the way: worth another try */
	HTTP_UNREACHABLE, /* no connection: another host may do */
	HTTP_NOT_TLS,     /* the other side does not speak TLS, it seems */
	HTTP_REFUSED,     /* certificate, URL: trying again is no use */
	HTTP_SINK,        /* the sink's error, or the body's */
};
/* *failure says more about a -1. */
int http_perform(struct http *h, struct arena *a, const struct http_request *r, struct http_reply *out,
		 enum http_failure *failure, struct err *e);

#endif
