/* A hash map from text to a pointer. The key's text belongs to the value (the map keeps the
 * pointer); values are the caller's. Open addressing, grows by itself, never fails. */
#ifndef KNARR_BASE_MAP_H
#define KNARR_BASE_MAP_H

#include "base/base.h"

struct map_slot {
	const char *key; /* NULL: free */
	void *value;
};

struct map {
	struct map_slot *slots;
	size_t count, cap;
};

void map_free(struct map *m); /* the table only */
void *map_get(const struct map *m, const char *key); /* NULL: none */
/* False, and nothing changed, where the key exists already. */
bool map_add(struct map *m, const char *key, void *value);
void *map_remove(struct map *m, const char *key); /* the value, NULL: none */
/* Walks all: `for (size_t i = 0; (v = map_next(m, &i)); )`. No change of the map meanwhile. */
void *map_next(const struct map *m, size_t *i);

#endif
