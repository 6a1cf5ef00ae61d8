/* A repository on its registry and the mirrors of it: which hosts there are, how each is reached and
 * let in. knarr-pull's; used by several threads at once. Blocks on the network. */
#ifndef KNARR_IMAGE_REGISTRY_H
#define KNARR_IMAGE_REGISTRY_H

#include "base/thread.h"
#include "image/pull_http.h"
#include "image/pull_protocol.h"
#include "spec/hosts.h"
#include "spec/ref.h"

struct registry_host {
	const struct host *host;
	struct http_tls tls;
	/* Guarded by registry.lock: */
	bool plain;              /* it turned out to speak no TLS */
	bool bad;                /* gave wrong bytes or cannot be reached: not asked again */
	const char *authorization; /* what it wanted to see last time, NULL: nothing */
	unsigned logins;         /* how often that changed */
};

struct registry {
	struct arena arena;      /* guarded by lock after registry_load */
	struct ref ref;
	const struct pull_message *start; /* the credentials, idle time */
	struct registry_host hosts[HOSTS_MAX + 1];
	size_t nhosts;
	struct lock lock;
};

/* Reads hosts.toml and certificates (as root may; before privileges are dropped). */
int registry_load(struct registry *r, const struct pull_message *start, struct err *e);

/* A request for "manifests/…" or "blobs/…" at one host, logged in and redirected as needed. */
struct registry_get {
	const char *method, *what, *accept;
	const char *url;         /* where an upload goes on; NULL: made of host and what */
	bool writes;             /* any 2xx is right */
	const char *form;        /* POST's body */
	int (*body)(void *ctx, int64_t at, void *bytes, size_t max, size_t *n, struct err *e); /* PUT's; see pull_http.h */
	void *body_ctx;
	int64_t body_size;
	const char *content_type;
	int64_t range_from;
	int (*sink)(void *ctx, const struct http_reply *reply, const void *bytes, size_t n, struct err *e);
	void *sink_ctx;
};
enum registry_outcome {
	REGISTRY_OK,        /* 200 or 206; another 2xx of what writes */
	REGISTRY_RETRY,     /* may work later; reply->retry_after_s */
	REGISTRY_NEXT,      /* not at this host */
	REGISTRY_STOP,      /* nowhere: the sink's error */
};
/* *e is set unless REGISTRY_OK. */
enum registry_outcome registry_get(struct registry *r, size_t host, struct http *h, struct arena *a,
				   const struct registry_get *g, struct http_reply *out, struct err *e);

/* The same with retries and the next hosts: those with this capability, in order. `before` is called
 * before each request (it sets range_from from what has arrived by now) and says whether there was
 * progress since the last one. *host: the one that answered. */
int registry_get_anywhere(struct registry *r, unsigned capability, struct http *h, struct arena *a,
			  struct registry_get *g, bool (*before)(struct registry_get *g),
			  struct http_reply *out, size_t *host, struct err *e);

/* The same at one host, again and again where that may help. */
enum registry_outcome registry_get_patiently(struct registry *r, size_t host, struct http *h, struct arena *a,
					     struct registry_get *g, struct http_reply *out, struct err *e);
/* The host that is written to: the first that may be. ERR_UNAVAILABLE: none may. */
int registry_push_host(struct registry *r, size_t *host, struct err *e);
/* Where an upload goes on: a reply's Location, absolute. */
int registry_location(struct registry *r, size_t host, struct arena *a, const char *what, const char *location, char **out,
		      struct err *e);
/* Before another try: longer each time, and as long as the registry asks for. */
void registry_pause(unsigned tries, const struct http_reply *reply);

void registry_host_is_bad(struct registry *r, size_t host);
bool registry_has_other(struct registry *r, unsigned capability);

/* pull_auth.c: what to show a host that answered 401 with this challenge: "Basic …", "Bearer …".
 * ERR_UNAUTHENTICATED: nothing that we have. */
int auth_answer(struct registry *r, const struct registry_host *host, struct http *h, struct arena *a,
		const char *challenge, char **authorization, struct err *e);
/* Whether an AuthConfig for `server_address` (NULL: any) is for this host. */
bool auth_is_for(const char *server_address, const char *registry, const struct host *host);

#endif
