#include "base/arena.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdio.h>
#include <sys/mman.h>

enum { CHUNK_BYTES = 64 * 1024 };

struct arena_chunk {
	struct arena_chunk *next;
	size_t size_bytes;
	alignas(max_align_t) char data[];
};

static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER;
static struct arena_chunk *kept; /* freed chunks of CHUNK_BYTES, under kept_lock */
static unsigned kept_count, kept_max;

void arena_keep_chunks(unsigned n)
{
	kept_max = n;
}

static struct arena_chunk *chunk_take_kept(void)
{
	struct arena_chunk *c;

	if (!kept_max)
		return NULL;
	pthread_mutex_lock(&kept_lock);
	c = kept;
	if (c) {
		kept = c->next;
		kept_count--;
	}
	pthread_mutex_unlock(&kept_lock);
	return c;
}

static bool chunk_keep(struct arena_chunk *c)
{
	bool keep = false;

	if (!kept_max || c->size_bytes != CHUNK_BYTES)
		return false;
	pthread_mutex_lock(&kept_lock);
	if (kept_count < kept_max) {
		c->next = kept;
		kept = c;
		kept_count++;
		keep = true;
	}
	pthread_mutex_unlock(&kept_lock);
	return keep;
}

static struct arena_chunk *chunk_new(size_t size)
{
	struct arena_chunk *c = size == CHUNK_BYTES ? chunk_take_kept() : NULL;

	if (c)
		return c;
	c = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (c == MAP_FAILED)
		BUG("out of memory");
	c->size_bytes = size;
	return c;
}

void *arena_alloc(struct arena *a, size_t size)
{
	size_t need = (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
	struct arena_chunk *c;
	void *p;

	BUG_ON(need < size);
	if ((size_t)(a->end - a->pos) < need) {
		size_t total = need + sizeof(*c);

		BUG_ON(total < need);
		total = total <= CHUNK_BYTES ? CHUNK_BYTES : (total + 4095) & ~(size_t)4095;
		c = chunk_new(total);
		a->total_bytes += total;
		/* A large piece gets a chunk of its own behind the current one, which stays in use. */
		if (total > CHUNK_BYTES && a->chunks) {
			c->next = a->chunks->next;
			a->chunks->next = c;
			return c->data;
		}
		c->next = a->chunks;
		a->chunks = c;
		a->pos = c->data;
		a->end = (char *)c + total;
	}
	p = a->pos;
	a->pos += need;
	return p;
}

void *arena_alloc0(struct arena *a, size_t size)
{
	return memset(arena_alloc(a, size), 0, size);
}

void *arena_array0(struct arena *a, size_t n, size_t size)
{
	size_t total;

	BUG_ON(__builtin_mul_overflow(n, size, &total));
	return arena_alloc0(a, total);
}

void arena_free(struct arena *a)
{
	struct arena_chunk *c = a->chunks;

	while (c) {
		struct arena_chunk *next = c->next;

		if (!chunk_keep(c))
			(void)munmap(c, c->size_bytes);
		c = next;
	}
	*a = (struct arena){ 0 };
}

void *arena_memdup(struct arena *a, const void *p, size_t size)
{
	void *copy = arena_alloc(a, size);

	return size ? memcpy(copy, p, size) : copy;
}

char *arena_strndup(struct arena *a, const char *s, size_t len)
{
	char *copy = arena_alloc(a, len + 1);

	if (len)
		memcpy(copy, s, len);
	copy[len] = '\0';
	return copy;
}

char *arena_strdup(struct arena *a, const char *s)
{
	return s ? arena_strndup(a, s, strlen(s)) : NULL;
}

char *arena_vprintf(struct arena *a, const char *fmt, va_list ap)
{
	va_list again;
	char small[256], *text;
	int n;

	va_copy(again, ap);
	n = vsnprintf(small, sizeof(small), fmt, ap);
	BUG_ON(n < 0);
	if ((size_t)n < sizeof(small)) {
		text = arena_strndup(a, small, (size_t)n);
	} else {
		text = arena_alloc(a, (size_t)n + 1);
		(void)vsnprintf(text, (size_t)n + 1, fmt, again);
	}
	va_end(again);
	return text;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	text = arena_vprintf(a, fmt, ap);
	va_end(ap);
	return text;
}
