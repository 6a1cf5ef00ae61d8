/* TLS for the streaming server, by OpenSSL, which is loaded when it is configured and not before: it would cost a
 * daemon that does without it 6 MB. TLS 1.2 and newer. Errors that end a connection are EPROTO in errno. */
#ifndef KNARR_STREAM_TLS_H
#define KNARR_STREAM_TLS_H

#include "base/err.h"

#include <sys/types.h>

struct tls;
struct tls_session;

/* client_ca NULL: no certificate is asked of clients; else one that it has signed is required. */
int tls_new(const char *cert, const char *key, const char *client_ca, struct tls **out, struct err *e);
void tls_free(struct tls *t); /* NULL is fine */

/* Over a non-blocking socket, which stays the caller's. */
struct tls_session *tls_session_new(struct tls *t, int fd);
void tls_session_free(struct tls_session *s); /* NULL is fine */
/* As read(2) and send(2): 0 is the peer's end, -1 with EAGAIN: later. */
ssize_t tls_read(struct tls_session *s, void *to, size_t n);
ssize_t tls_write(struct tls_session *s, const void *from, size_t n);
/* Whether it waits for the socket to take more, without any data of ours. */
bool tls_wants_to_write(const struct tls_session *s);

#endif
