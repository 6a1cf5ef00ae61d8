/* The HTTP socket of cAdvisor's questions (cri/cri.h, crio_answer): one thread, a handful of connections that stay open
 * between requests, GET only. Whoever asks badly, reads slowly or is one too many loses the connection, and harms nobody
 * else. Only root may connect. */
#ifndef KNARR_DAEMON_CADVISOR_H
#define KNARR_DAEMON_CADVISOR_H

#include "base/arena.h"
#include "base/buf.h"

struct cadvisor;

/* Listens; who connects waits until cadvisor_start(). What lies at the path is replaced, unless somebody answers there:
 * ERR_EXISTS. Its folder exists. */
int cadvisor_open(const char *path, struct cadvisor **out, struct err *e);

/* Answers a path with JSON, from memory; ERR_NOT_FOUND and ERR_UNAVAILABLE are told by their status codes. */
typedef int cadvisor_answer(void *ctx, struct arena *a, struct str path, struct buf *json, struct err *e);
int cadvisor_start(struct cadvisor *s, cadvisor_answer *answer, void *ctx, struct err *e);
/* No answer is under way afterwards; removes the socket. NULL is fine. */
void cadvisor_close(struct cadvisor *s);

#endif
