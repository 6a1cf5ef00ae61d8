/* What knarrd and knarr-pull say to each other: one JSON object a message over a SOCK_SEQPACKET pair,
 * with fds beside it (docs/formats/pull.md). knarrd decides what is fetched and where it goes;
 * knarr-pull only talks to registries. The end of the socket is the end of knarr-pull. */
#ifndef KNARR_IMAGE_PULL_PROTOCOL_H
#define KNARR_IMAGE_PULL_PROTOCOL_H

#include "base/json.h"

enum { PULL_SOCKET_FD = 3, PULL_MESSAGE_MAX = 65536, PULL_FDS_MAX = 3 };

/* The messages, by `type`. To knarr-pull: "start" (first, once), "fetch" with the fds {ingest file,
 * then the pipe of a layer's unpacker if there is one}; "copy", the same from a file instead of a registry, which is
 * the last of the fds; "push" with the fd of a file. From it: "resolved" (once, where start says no purpose),
 * "progress", "done" and "failed" with the id of an order; "failed" with id 0 is the end of the pull. */
struct pull_message {
	char *type;
	/* start */
	char *reference;    /* NULL: no registry, only copies */
	bool push;          /* the reference is written to: nothing is resolved */
	char **hosts_dirs, **certs_dirs;
	char *registries_conf;
	int64_t parallel, idle_ms;
	char *username, *password, *auth, *server_address, *identity_token, *registry_token;
	/* fetch; digest, media_type and size in resolved too */
	int64_t id;
	char *digest, *media_type;
	int64_t size;
	bool manifest;      /* of /manifests/, not /blobs/ */
	/* copy, push */
	int64_t offset;     /* where in the file it begins */
	char *tag;          /* push of a manifest: by this tag; NULL: by its digest */
	char *mount_from;   /* push of a blob: a repository of the same registry that may have it; NULL: none */
	/* events */
	int64_t bytes;      /* progress: received so far, of all fetches */
	char *kind, *text;  /* failed: err_kind_name and message */
	bool discard;       /* failed: what is in the ingest file is wrong */
	bool again;         /* failed: another try may find it right (another mirror, a fresh start) */
};

int pull_send(int sock, const struct pull_message *m, const int *fds, size_t nfds, struct err *e);
/* 1: a message; 0: the other side has gone. fds: room for PULL_FDS_MAX, all set (-1: none); the
 * caller's to close. ERR_INVALID: no message of ours. */
int pull_recv(int sock, struct arena *a, struct pull_message *m, int fds[PULL_FDS_MAX], struct err *e);

enum err_kind pull_kind_of(const char *name); /* an unknown name is ERR_INTERNAL */

#endif
