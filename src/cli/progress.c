#include "cli/progress.h"

#include "base/clock.h"
#include "knarr.pb-c.h"

#include <stdio.h>
#include <unistd.h>

enum { BAR = 30, SAY_EVERY_S = 5 };

struct progress {
	struct arena *a;
	const char *what, *id;
	bool terminal;
	int64_t begun_ns, said_ns;
};

struct progress *progress_new(struct arena *a, const char *what)
{
	struct progress *p = arena_new0(a, struct progress);

	*p = (struct progress){ .a = a, .what = what, .terminal = isatty(STDERR_FILENO), .begun_ns = clock_mono_ns(),
				.said_ns = clock_mono_ns() };
	return p;
}

static void show_bar(const struct progress *p, const struct progress_state *s)
{
	char bar[BAR + 1];
	unsigned full = s->bytes_total ? (unsigned)(MIN(s->bytes, s->bytes_total) * BAR / s->bytes_total) : 0;
	double seconds = (double)(clock_mono_ns() - p->begun_ns) / 1e9;
	auto_arena a = { 0 };

	for (unsigned i = 0; i < BAR; i++)
		bar[i] = i < full ? '=' : i == full ? '>' : ' ';
	bar[BAR] = '\0';
	fprintf(stderr, "\r\033[K[%s] %s of %s, layer %u of %u, %s/s%s%s", bar, text_size(&a, s->bytes),
		text_size(&a, s->bytes_total), s->layers_done, s->layers,
		text_size(&a, seconds > 0.1 ? (uint64_t)((double)s->bytes / seconds) : 0),
		str_is_empty(s->waits_for) ? "" : ", ", s->waits_for ? s->waits_for : "");
}

void progress_show(struct progress *p, const struct progress_state *s)
{
	auto_arena a = { 0 };

	if (p->terminal) {
		show_bar(p, s);
	} else if (s->bytes_total && clock_mono_ns() - p->said_ns > SAY_EVERY_S * NS_PER_S) {
		p->said_ns = clock_mono_ns();
		fprintf(stderr, "%s: %s of %s, layer %u of %u\n", p->what, text_size(&a, s->bytes),
			text_size(&a, s->bytes_total), s->layers_done, s->layers);
	}
}

int progress_take(void *ctx, const ProtobufCMessage *m, UNUSED struct err *e)
{
	const Knarr__V1__PullImageProgress *in = (const void *)m;
	struct progress *p = ctx;

	if (str_is_empty(in->image_id))
		progress_show(p, &(struct progress_state){ in->layers, in->layers_done, in->bytes, in->bytes_total,
							   in->waits_for });
	else
		p->id = arena_strdup(p->a, in->image_id);
	return 0;
}

void progress_end(struct progress *p)
{
	if (p->terminal)
		fputs("\r\033[K", stderr);
}

const char *progress_id(const struct progress *p)
{
	return p->id;
}
