/* What a token stands for: one exec, attach or port-forward that was allowed and has not begun. Tickets are kept until
 * they are used or too old, at most STREAM_TOKENS_MAX of them; the table is safe in every thread, a ticket once taken
 * belongs to the loop's. */
#ifndef KNARR_STREAM_TICKET_H
#define KNARR_STREAM_TICKET_H

#include "base/list.h"
#include "base/thread.h"
#include "stream/stream.h"

#define TICKET_KINDS(X) X(EXEC, "exec") X(ATTACH, "attach") X(PORTS, "portforward")
enum ticket_kind {
#define X(name, text) TICKET_##name,
	TICKET_KINDS(X)
#undef X
	TICKET_KIND_COUNT
};
extern const char *const ticket_kind_name[TICKET_KIND_COUNT];

enum { TICKET_TOKEN_LEN = 32 }; /* hex digits: 128 bits that nobody guesses */
struct ticket {
	struct list link;
	struct arena arena;
	unsigned refs;
	char token[ID_HEX_LEN + 1];
	int64_t until_ns;
	enum ticket_kind kind;
	struct session_wish wish;    /* EXEC, ATTACH */
	enum pod_owner owner;
	struct stream_ports ports;   /* PORTS */
};

struct tickets {
	struct lock lock;
	struct list all;             /* the oldest first */
	size_t n;
	int64_t life_ns;
};

void tickets_init(struct tickets *t, int64_t life_ns);
void tickets_free(struct tickets *t);
/* Copies what it is for; the token is valid until the ticket is used. */
int ticket_new(struct tickets *t, const struct ticket *what, char token[TICKET_TOKEN_LEN + 1], struct err *e);
/* The ticket, of that kind, out of the table for good; NULL: there is none (any more). One reference, the caller's. */
struct ticket *ticket_take(struct tickets *t, enum ticket_kind kind, struct str token);
void ticket_ref(struct ticket *t);
void ticket_unref(struct ticket *t); /* NULL is fine */

#endif
