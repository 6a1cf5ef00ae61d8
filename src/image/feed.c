#include "image/feed.h"

#include "base/thread.h"
#include "image/sha256.h"

#include <errno.h>
#include <unistd.h>

/* Six buffers of a quarter MiB stay in the cache and cover what a file's system calls take. */
enum { FEED_BUFFERS = 6, FEED_BUFFER_BYTES = 256 * 1024 };
static const uint64_t ratio_free_bytes = UINT64_C(1) << 30; /* small layers may be all zeros */

struct feed {
	struct arena arena; /* owns this very struct */
	struct feed_settings settings;
	struct sha256 *sha256;
	struct lock lock;   /* guards what stands down to `stop` */
	struct cond changed;
	size_t filled, emptied; /* buffers, counted from the start */
	bool done;          /* no buffer follows: the end, or failed */
	bool failed, stop;
	struct err err;
	unsigned char *buffers[FEED_BUFFERS];
	size_t lengths[FEED_BUFFERS];
	bool holds;         /* the reader has the oldest full buffer */
	struct feed_sum sum; /* the thread's, until done */
	pthread_t thread;
};

static int read_compressed(void *ctx, void *bytes, size_t cap, size_t *n, struct err *e)
{
	struct feed *f = ctx;
	ssize_t r;

	do {
		r = read(f->settings.fd, bytes, cap);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return err_sys(e, errno, "read the layer");
	*n = (size_t)r;
	return 0;
}

static int limits_check(const struct feed *f, const struct inflate *in, struct err *e)
{
	uint64_t taken = inflate_taken(in);

	if (f->sum.size > f->settings.max_bytes)
		return err_set(e, ERR_EXHAUSTED, "the layer has more than %llu bytes",
			       (unsigned long long)f->settings.max_bytes);
	if (f->sum.size > ratio_free_bytes && f->sum.size / f->settings.max_ratio > taken)
		return err_set(e, ERR_EXHAUSTED, "the layer grows more than %llu times when decompressed",
			       (unsigned long long)f->settings.max_ratio);
	return 0;
}

/* A buffer to fill; false: nobody wants more. */
static bool wait_for_room(struct feed *f)
{
	LOCKED(&f->lock);
	while (f->filled - f->emptied == FEED_BUFFERS && !f->stop) {
		struct err ignored; /* no call, no end to wait for */

		(void)cond_wait(NULL, &f->changed, &f->lock, &ignored);
	}
	return !f->stop;
}

static void announce(struct feed *f)
{
	LOCKED(&f->lock);
	f->filled++;
	cond_broadcast(&f->changed);
}

static int produce(struct feed *f, struct inflate *in, struct err *e)
{
	size_t n;

	do {
		size_t at = f->filled % FEED_BUFFERS;

		if (!wait_for_room(f))
			return 0;
		n = 0;
		if (inflate_read(in, f->buffers[at], FEED_BUFFER_BYTES, &n, e) < 0)
			return -1;
		f->sum.size += n;
		if (limits_check(f, in, e) < 0)
			return -1;
		sha256_add(f->sha256, f->buffers[at], n);
		f->lengths[at] = n;
		if (n)
			announce(f);
	} while (n == FEED_BUFFER_BYTES);
	sha256_end(f->sha256, f->sum.sha256);
	return 0;
}

static int run(struct feed *f, struct err *e)
{
	struct inflate_source source = { read_compressed, f };
	struct inflate *in = NULL;
	int rc = inflate_open(source, f->settings.want, &in, e);

	if (rc < 0)
		return -1;
	f->sum.format = inflate_format(in);
	rc = produce(f, in, e);
	inflate_close(in);
	return rc;
}

static void *feed_thread(void *arg)
{
	struct feed *f = arg;
	struct err e;
	int rc = run(f, &e);

	LOCKED(&f->lock);
	f->failed = rc < 0;
	if (rc < 0)
		f->err = e;
	f->done = true;
	cond_broadcast(&f->changed);
	return NULL;
}

int feed_open(const struct feed_settings *s, struct feed **out, struct err *e)
{
	struct arena a = { 0 };
	struct feed *f = arena_new0(&a, struct feed);

	f->settings = *s;
	for (int i = 0; i < FEED_BUFFERS; i++)
		f->buffers[i] = arena_alloc(&a, FEED_BUFFER_BYTES);
	f->arena = a;
	lock_init(&f->lock);
	cond_init(&f->changed);
	f->sha256 = sha256_new();
	if (thread_start(&f->thread, "inflate", feed_thread, f, e) < 0) {
		sha256_free(f->sha256);
		a = f->arena;
		arena_free(&a);
		return -1;
	}
	*out = f;
	return 0;
}

void feed_close(struct feed *f)
{
	struct arena a;

	if (!f)
		return;
	lock_acquire(&f->lock);
	f->stop = true;
	cond_broadcast(&f->changed);
	lock_release(&f->lock);
	(void)pthread_join(f->thread, NULL);
	sha256_free(f->sha256);
	cond_destroy(&f->changed);
	lock_destroy(&f->lock);
	a = f->arena;
	arena_free(&a);
}

static int feed_more(void *ctx, const unsigned char **p, size_t *n, struct err *e)
{
	struct feed *f = ctx;
	struct err ignored;
	LOCKED(&f->lock);

	if (f->holds) {
		f->holds = false;
		f->emptied++;
		cond_broadcast(&f->changed);
	}
	while (f->filled == f->emptied && !f->done)
		(void)cond_wait(NULL, &f->changed, &f->lock, &ignored); /* no call, no end to wait for */
	if (f->filled == f->emptied && f->failed) {
		*e = f->err;
		return -1;
	}
	*n = 0;
	if (f->filled == f->emptied)
		return 0;
	f->holds = true;
	*p = f->buffers[f->emptied % FEED_BUFFERS];
	*n = f->lengths[f->emptied % FEED_BUFFERS];
	return 0;
}

struct tar_source feed_source(struct feed *f)
{
	return (struct tar_source){ feed_more, f };
}

int feed_finish(struct feed *f, struct feed_sum *out, struct err *e)
{
	const unsigned char *p;
	size_t n;

	do {
		if (feed_more(f, &p, &n, e) < 0)
			return -1;
	} while (n);
	*out = f->sum; /* the thread is done */
	return 0;
}
