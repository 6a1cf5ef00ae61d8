#include "base/map.h"

#include "base/str.h"

#include <stdlib.h>

void map_free(struct map *m)
{
	free(m->slots);
	*m = (struct map){ 0 };
}

/* The slot that has the key, or the free one where it belongs. */
static struct map_slot *slot_of(const struct map *m, const char *key)
{
	size_t i = str_hash(key) & (m->cap - 1);

	while (m->slots[i].key && !streq(m->slots[i].key, key))
		i = (i + 1) & (m->cap - 1);
	return &m->slots[i];
}

static void grow(struct map *m)
{
	struct map bigger = { .cap = m->cap ? m->cap * 2 : 16 };

	bigger.slots = calloc(bigger.cap, sizeof(*bigger.slots));
	if (!bigger.slots)
		BUG("out of memory");
	for (size_t i = 0; i < m->cap; i++)
		if (m->slots[i].key)
			*slot_of(&bigger, m->slots[i].key) = m->slots[i];
	bigger.count = m->count;
	free(m->slots);
	*m = bigger;
}

void *map_get(const struct map *m, const char *key)
{
	return m->cap ? slot_of(m, key)->value : NULL;
}

bool map_add(struct map *m, const char *key, void *value)
{
	struct map_slot *s;

	BUG_ON(!value);
	if (m->count * 4 >= m->cap * 3)
		grow(m);
	s = slot_of(m, key);
	if (s->key)
		return false;
	*s = (struct map_slot){ key, value };
	m->count++;
	return true;
}

void *map_remove(struct map *m, const char *key)
{
	struct map_slot *s;
	size_t i;
	void *value;

	if (!m->cap)
		return NULL;
	s = slot_of(m, key);
	if (!s->key)
		return NULL;
	value = s->value;
	*s = (struct map_slot){ 0 };
	m->count--;
	/* What followed in the same run may have been pushed there by this one: put it in again. */
	i = (size_t)(s - m->slots);
	for (i = (i + 1) & (m->cap - 1); m->slots[i].key; i = (i + 1) & (m->cap - 1)) {
		struct map_slot moved = m->slots[i];

		m->slots[i] = (struct map_slot){ 0 };
		*slot_of(m, moved.key) = moved;
	}
	return value;
}

void *map_next(const struct map *m, size_t *i)
{
	while (*i < m->cap) {
		struct map_slot *s = &m->slots[(*i)++];

		if (s->key)
			return s->value;
	}
	return NULL;
}
