#include "stream/ticket.h"

#include "base/clock.h"
#include "base/mem.h"

const char *const ticket_kind_name[TICKET_KIND_COUNT] = {
#define X(name, text) [TICKET_##name] = text,
	TICKET_KINDS(X)
#undef X
};

void tickets_init(struct tickets *t, int64_t life_ns)
{
	*t = (struct tickets){ .life_ns = life_ns };
	lock_init(&t->lock);
	list_init(&t->all);
}

void ticket_ref(struct ticket *t)
{
	t->refs++;
}

void ticket_unref(struct ticket *t)
{
	if (!t || --t->refs)
		return;
	arena_free(&t->arena);
	mem_free(t);
}

static void forget_locked(struct tickets *all, struct ticket *t)
{
	lock_assert_held(&all->lock);
	list_del(&t->link);
	all->n--;
}

static void forget_old_locked(struct tickets *all)
{
	int64_t now = clock_mono_ns();

	list_for_each_safe(t, &all->all, struct ticket, link) {
		if (t->until_ns > now)
			return;
		forget_locked(all, t);
		ticket_unref(t);
	}
}

void tickets_free(struct tickets *t)
{
	list_for_each_safe(one, &t->all, struct ticket, link)
		ticket_unref(one);
	lock_destroy(&t->lock);
}

static struct ticket *copy(const struct ticket *what)
{
	struct ticket *t = mem_new0(struct ticket);

	t->refs = 1;
	t->kind = what->kind;
	t->owner = what->owner;
	t->wish = what->wish;
	t->wish.container = arena_strdup(&t->arena, what->wish.container);
	t->wish.argv = what->wish.argv ? strv_dup(&t->arena, what->wish.argv) : NULL;
	t->ports = what->ports;
	t->ports.pod_id = arena_strdup(&t->arena, what->ports.pod_id);
	if (what->ports.nports)
		t->ports.ports = arena_memdup(&t->arena, what->ports.ports, what->ports.nports * sizeof(*what->ports.ports));
	id_new(t->token);
	t->token[TICKET_TOKEN_LEN] = '\0';
	return t;
}

int ticket_new(struct tickets *all, const struct ticket *what, char token[TICKET_TOKEN_LEN + 1], struct err *e)
{
	struct ticket *t = copy(what);
	bool full;

	memcpy(token, t->token, TICKET_TOKEN_LEN + 1);
	lock_acquire(&all->lock);
	forget_old_locked(all);
	full = all->n >= STREAM_TOKENS_MAX;
	if (!full) {
		t->until_ns = clock_mono_ns() + all->life_ns;
		list_add(&all->all, &t->link);
		all->n++;
	}
	lock_release(&all->lock);
	if (!full)
		return 0;
	list_init(&t->link);
	ticket_unref(t);
	return err_set(e, ERR_EXHAUSTED, "%d streaming sessions wait to be begun; no more are taken for now",
		       STREAM_TOKENS_MAX);
}

struct ticket *ticket_take(struct tickets *all, enum ticket_kind kind, struct str token)
{
	LOCKED(&all->lock);

	forget_old_locked(all);
	list_for_each(t, &all->all, struct ticket, link) {
		if (t->kind == kind && str_eqz(token, t->token)) {
			forget_locked(all, t);
			return t;
		}
	}
	return NULL;
}
