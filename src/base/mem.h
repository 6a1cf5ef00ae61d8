/* Memory of objects that outlive a call (pods, connections, sessions): zeroed at birth, freed one by
 * one. What is made while answering a call belongs into its arena instead. Out of memory aborts. */
#ifndef KNARR_BASE_MEM_H
#define KNARR_BASE_MEM_H

#include "base/base.h"

void *mem_alloc0(size_t size) __attribute__((malloc, alloc_size(1), returns_nonnull));
#define mem_new0(type) ((type *)mem_alloc0(sizeof(type)))

/* NULL in, NULL out. */
char *mem_strdup(const char *s);

/* NULL is fine. */
void mem_free(void *p);

#endif
