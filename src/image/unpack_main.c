/* knarr-unpack: one layer's bytes (fd 0) become files below a folder (fd 3); the result goes to fd 4.
 * Started by knarrd (unpack.h); of no use to a person. */
#include "base/fd.h"
#include "base/opt.h"
#include "base/str.h"
#include "image/feed.h"
#include "image/sha256.h"
#include "image/tree.h"
#include "image/unpack_report.h"
#include "image/unpack_sandbox.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

struct settings {
	struct feed_settings feed;
	uint64_t max_entries;
};

static int unpack_entries(const struct settings *s, struct feed *f, struct tree *tree, struct arena *a,
			  struct unpack_result *r, struct err *e)
{
	struct tar_entry entry;
	auto_tar tar;
	int more;

	tar_open(&tar, feed_source(f));
	while ((more = tar_next(&tar, &entry, e)) > 0) {
		if (++r->entries > s->max_entries)
			return err_set(e, ERR_EXHAUSTED, "the layer has more than %llu entries",
				       (unsigned long long)s->max_entries);
		if (tree_add(tree, &tar, &entry, e) < 0)
			return -1;
	}
	if (more < 0)
		return -1;
	return tree_finish(tree, a, &r->opaque, e);
}

static int unpack_layer(const struct settings *s, int dest_fd, struct arena *a, struct unpack_result *r,
			struct err *e)
{
	struct feed_sum sum;
	struct feed *f;
	struct tree tree;
	char hex[65];

	if (feed_open(&s->feed, &f, e) < 0)
		return -1;
	tree_open(&tree, dest_fd);
	/* The process ends right after an error: the thread, the fds and the memory go with it. */
	if (unpack_entries(s, f, &tree, a, r, e) < 0 || feed_finish(f, &sum, e) < 0)
		return -1;
	hex_encode(hex, sum.sha256, sizeof(sum.sha256));
	r->diff_id = arena_printf(a, "sha256:%s", hex);
	r->format = arena_strdup(a, unpack_format_name(sum.format));
	r->size = sum.size;
	r->disk_bytes = tree.disk_bytes;
	r->inodes = tree.inodes;
	r->has_root = tree.root_given;
	r->xattrs_dropped = tree.xattrs_dropped;
	tree_close(&tree);
	feed_close(f);
	return 0;
}

static int report(const struct unpack_report *r, struct err *e)
{
	auto_buf b = BUF(UNPACK_REPORT_MAX);

	if (json_write(&b, unpack_report_fields, r, e) < 0)
		return -1;
	return fd_write_all(UNPACK_FD_RESULT, b.p, b.len, e);
}

static int settings_parse(struct arena *a, char *const *argv, struct settings *s, struct err *e)
{
	int64_t bytes = 0, entries = 0, ratio = 0, format = UNPACK_ANY;
	const struct opt opts[] = {
		{ OPT_I64, 0, "format", &format, "N", "what the media type promises (enum unpack_format)" },
		{ OPT_I64, 0, "max-bytes", &bytes, "N", "of the uncompressed stream" },
		{ OPT_I64, 0, "max-entries", &entries, "N", "of the archive" },
		{ OPT_I64, 0, "max-ratio", &ratio, "N", "uncompressed to compressed" },
		{ 0 },
	};
	char **words;

	if (opts_parse(a, opts, 0, argv, &words, e) < 0)
		return -1;
	if (*words || bytes <= 0 || entries <= 0 || ratio <= 0 || format < UNPACK_ANY || format > UNPACK_ZSTD)
		return err_set(e, ERR_INVALID, "knarr-unpack is started by knarrd only");
	s->feed = (struct feed_settings){ .fd = STDIN_FILENO, .want = (enum unpack_format)format,
					  .max_bytes = (uint64_t)bytes, .max_ratio = (uint64_t)ratio };
	s->max_entries = (uint64_t)entries;
	return 0;
}

int main(int argc UNUSED, char **argv)
{
	auto_arena a = { 0 };
	struct unpack_report r = { 0 };
	struct settings s;
	int dest_fd = UNPACK_FD_DEST;
	struct err e, failed;

	umask(0);
	sha256_warm_up(); /* with the host's files still in sight */
	if (settings_parse(&a, argv, &s, &e) < 0 ||
	    unpack_sandbox_enter(&dest_fd, UNPACK_FD_RESULT, &e) < 0 ||
	    unpack_layer(&s, dest_fd, &a, &r.result, &e) < 0) {
		r = (struct unpack_report){ .error_kind = e.kind, .error = arena_strdup(&a, e.msg) };
	}
	if (report(&r, &failed) < 0) {
		(void)fprintf(stderr, "knarr-unpack: %s\n", r.error ? r.error : failed.msg);
		_exit(1);
	}
	_exit(r.error ? 1 : 0); /* no exit handlers: nothing is left to flush, and the cell has no room for them */
}
