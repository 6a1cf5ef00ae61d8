#include "image/shelf.h"

#include "base/mem.h"

void shelf_init(struct shelf *s)
{
	*s = (struct shelf){ 0 };
	lock_init(&s->lock);
	cond_init(&s->changed);
}

static void item_free(struct shelf_item *item)
{
	mem_free(item->id);
	mem_free(item);
}

void shelf_destroy(struct shelf *s)
{
	struct shelf_item *item;

	for (size_t i = 0; (item = map_next(&s->items, &i));)
		item_free(item);
	map_free(&s->items);
	cond_destroy(&s->changed);
	lock_destroy(&s->lock);
}

static struct shelf_item *item_add_locked(struct shelf *s, const char *id, enum shelf_state state)
{
	struct shelf_item *item = mem_new0(struct shelf_item);

	lock_assert_held(&s->lock);
	item->id = mem_strdup(id);
	item->state = state;
	BUG_ON(!map_add(&s->items, item->id, item));
	return item;
}

static void item_remove_locked(struct shelf *s, struct shelf_item *item)
{
	lock_assert_held(&s->lock);
	(void)map_remove(&s->items, item->id);
	item_free(item);
	cond_broadcast(&s->changed);
}

void shelf_add(struct shelf *s, const char *id, uint64_t bytes, uint64_t inodes, uint64_t flags)
{
	struct shelf_item *item;

	LOCKED(&s->lock);
	if (map_get(&s->items, id))
		return;
	item = item_add_locked(s, id, SHELF_READY);
	item->bytes = bytes;
	item->inodes = inodes;
	item->flags = flags;
}

static bool try_take_locked(struct shelf *s, const char *id, bool *mine)
{
	struct shelf_item *item = map_get(&s->items, id);

	lock_assert_held(&s->lock);
	*mine = !item;
	if (!item) {
		item_add_locked(s, id, SHELF_MAKING)->refs = 1;
		return true;
	}
	if (item->state != SHELF_READY)
		return false;
	item->refs++;
	return true;
}

bool shelf_try_take(struct shelf *s, const char *id, bool *mine)
{
	LOCKED(&s->lock);
	return try_take_locked(s, id, mine);
}

int shelf_take(struct shelf *s, struct call *c, const char *id, bool *mine, struct err *e)
{
	LOCKED(&s->lock);
	while (!try_take_locked(s, id, mine))
		if (cond_wait(c, &s->changed, &s->lock, e) < 0)
			return -1;
	return 0;
}

bool shelf_ref(struct shelf *s, const char *id)
{
	struct shelf_item *item;

	LOCKED(&s->lock);
	item = map_get(&s->items, id);
	if (!item || item->state != SHELF_READY)
		return false;
	item->refs++;
	return true;
}

void shelf_unref(struct shelf *s, const char *id)
{
	struct shelf_item *item;

	LOCKED(&s->lock);
	item = map_get(&s->items, id);
	BUG_ON(!item || !item->refs || item->state != SHELF_READY);
	item->refs--;
}

void shelf_made(struct shelf *s, const char *id, uint64_t bytes, uint64_t inodes, uint64_t flags)
{
	struct shelf_item *item;

	LOCKED(&s->lock);
	item = map_get(&s->items, id);
	BUG_ON(!item || item->state != SHELF_MAKING);
	item->state = SHELF_READY;
	item->bytes = bytes;
	item->inodes = inodes;
	item->flags = flags;
	cond_broadcast(&s->changed);
}

void shelf_failed(struct shelf *s, const char *id)
{
	struct shelf_item *item;

	LOCKED(&s->lock);
	item = map_get(&s->items, id);
	BUG_ON(!item || item->state != SHELF_MAKING);
	item_remove_locked(s, item);
}

bool shelf_get(struct shelf *s, const char *id, struct shelf_item *out)
{
	struct shelf_item *item;

	LOCKED(&s->lock);
	item = map_get(&s->items, id);
	if (!item || item->state != SHELF_READY)
		return false;
	*out = *item;
	out->id = NULL; /* the shelf's own */
	return true;
}

void shelf_sum(struct shelf *s, uint64_t *bytes, uint64_t *inodes)
{
	struct shelf_item *item;

	LOCKED(&s->lock);
	*bytes = *inodes = 0;
	for (size_t i = 0; (item = map_next(&s->items, &i));) {
		*bytes += item->bytes;
		*inodes += item->inodes;
	}
}

/* One that nobody needs, now in state REMOVING; NULL: none. Each is tried once a round. */
static struct shelf_item *next_unused(struct shelf *s, uint64_t round)
{
	struct shelf_item *item;

	LOCKED(&s->lock);
	for (size_t i = 0; (item = map_next(&s->items, &i));) {
		if (item->state == SHELF_READY && !item->refs && item->tried != round) {
			item->tried = round;
			item->state = SHELF_REMOVING;
			return item;
		}
	}
	return NULL;
}

static void removed(struct shelf *s, struct shelf_item *item, bool gone)
{
	LOCKED(&s->lock);
	if (gone) {
		item_remove_locked(s, item);
		return;
	}
	item->state = SHELF_READY;
	cond_broadcast(&s->changed);
}

static uint64_t next_round(struct shelf *s)
{
	LOCKED(&s->lock);
	return ++s->rounds;
}

int shelf_collect(struct shelf *s, int (*remove)(void *ctx, const char *id, struct err *e), void *ctx,
		  struct err *e)
{
	uint64_t round = next_round(s);
	struct shelf_item *item;
	int rc = 0;

	while ((item = next_unused(s, round))) {
		struct err mine;
		int one = remove(ctx, item->id, &mine);

		if (one < 0 && rc == 0)
			*e = mine;
		rc = MIN(rc, one);
		removed(s, item, one == 0);
	}
	return rc;
}
