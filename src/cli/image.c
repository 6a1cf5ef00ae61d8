#include "cli/cli.h"

#include "cli/output.h"
#include "cli/progress.h"
#include "cri.pb-c.h"
#include "knarr.pb-c.h"
#include "spec/ref.h"

#include <stdio.h>

int image_pull_shown(struct cli *cli, const char *reference, const char **id, struct err *e)
{
	Knarr__V1__PullImageRequest in = KNARR__V1__PULL_IMAGE_REQUEST__INIT;
	struct progress *p = progress_new(cli->a, reference);
	int rc;

	if (cli_connect(cli, e) < 0)
		return -1;
	in.reference = (char *)reference;
	rc = client_stream(cli->client, cli->call, "/knarr.v1.Knarr/PullImage", &in.base,
			   &knarr__v1__pull_image_progress__descriptor, progress_take, p, e);
	progress_end(p);
	if (rc < 0)
		return -1;
	*id = progress_id(p);
	return *id ? 0 : err_set(e, ERR_INTERNAL, "the pull of %s ended without an image", reference);
}

int verb_pull(struct cli *cli, char *const *argv, struct err *e)
{
	bool quiet = false;
	const struct opt opts[] = {
		{ OPT_FLAG, 'q', "quiet", &quiet, NULL, "Print only the image's ID" },
		{ 0 },
	};
	const char *reference, *id;
	struct ref ref;
	char **words;
	int rc = cli_options(cli, "pull", opts, 0, argv, &words, e);

	if (rc)
		return rc < 0 ? -1 : 0;
	if (cli_one_word(words, "the image", &reference, e) < 0 || ref_parse(cli->a, reference, &ref, e) < 0)
		return -1;
	if (image_pull_shown(cli, reference, &id, e) < 0)
		return -1;
	if (quiet)
		puts(id);
	else
		printf("%s is %s\n", ref_familiar(cli->a, &ref), text_short_id(cli->a, id));
	return 0;
}

static void image_rows(struct cli *cli, struct table *t, const Runtime__V1__Image *im)
{
	const char *id = text_short_id(cli->a, im->id), *size = text_size(cli->a, im->size);
	struct ref ref;
	struct err ignored;

	for (size_t i = 0; i < im->n_repo_tags; i++)
		if (ref_parse(cli->a, im->repo_tags[i], &ref, &ignored) == 0)
			table_row(t, ref_familiar(cli->a, &ref), id, size, im->pinned ? "pinned" : "");
	if (!im->n_repo_tags)
		table_row(t, im->n_repo_digests ? im->repo_digests[0] : "<none>", id, size, im->pinned ? "pinned" : "");
}

int verb_images(struct cli *cli, char *const *argv, struct err *e)
{
	bool quiet = false;
	const char *format = NULL;
	const struct opt opts[] = {
		{ OPT_FLAG, 'q', "quiet", &quiet, NULL, "Print only IDs" },
		OUTPUT_OPTION(&format),
		{ 0 },
	};
	enum output how;
	Runtime__V1__ListImagesRequest in = RUNTIME__V1__LIST_IMAGES_REQUEST__INIT;
	Runtime__V1__ListImagesResponse *list;
	struct table *t = table_new(cli->a, 4);
	char **words;
	int rc = cli_options(cli, "images", opts, 0, argv, &words, e);

	if (rc)
		return rc < 0 ? -1 : 0;
	if (output_parse(format, OUTPUT_TABLE, &how, e) < 0)
		return -1;
	if (how != OUTPUT_TABLE)
		return image_list_print(cli, how, e);
	if (cli_connect(cli, e) < 0 ||
	    CRI_IMAGE(cli->client, cli->call, ListImages, list_images, &in, &list, e) < 0)
		return -1;
	table_row(t, "IMAGE", "ID", "SIZE", "");
	for (size_t i = 0; i < list->n_images; i++) {
		if (quiet)
			puts(list->images[i]->id);
		else
			image_rows(cli, t, list->images[i]);
	}
	if (!quiet)
		table_print(t);
	return 0;
}

static int image_is_there(struct cli *cli, const char *name, struct err *e)
{
	Runtime__V1__ImageStatusRequest in = RUNTIME__V1__IMAGE_STATUS_REQUEST__INIT;
	Runtime__V1__ImageSpec spec = RUNTIME__V1__IMAGE_SPEC__INIT;
	Runtime__V1__ImageStatusResponse *out;

	spec.image = (char *)name;
	in.image = &spec;
	if (CRI_IMAGE(cli->client, cli->call, ImageStatus, image_status, &in, &out, e) < 0)
		return -1;
	if (!out->image)
		return err_set(e, ERR_NOT_FOUND, "there is no image \"%s\" here", name);
	return 0;
}

int verb_rmi(struct cli *cli, char *const *argv, struct err *e)
{
	static const struct opt opts[] = { { 0 } };
	char **words;
	int rc = cli_options(cli, "rmi", opts, 0, argv, &words, e);

	if (rc)
		return rc < 0 ? -1 : 0;
	if (!words[0])
		return err_set(e, ERR_INVALID, "knarr rmi: which image?");
	if (cli_connect(cli, e) < 0)
		return -1;
	for (rc = 0; *words; words++) {
		Runtime__V1__RemoveImageRequest in = RUNTIME__V1__REMOVE_IMAGE_REQUEST__INIT;
		Runtime__V1__ImageSpec spec = RUNTIME__V1__IMAGE_SPEC__INIT;
		Runtime__V1__RemoveImageResponse *out;

		spec.image = *words;
		in.image = &spec;
		if (image_is_there(cli, *words, e) < 0 ||
		    CRI_IMAGE(cli->client, cli->call, RemoveImage, remove_image, &in, &out, e) < 0)
			rc = cli_fail(e, CLI_FAILED);
		else
			puts(*words);
	}
	return rc;
}

int verb_tag(struct cli *cli, char *const *argv, struct err *e)
{
	static const struct opt opts[] = { { 0 } };
	Knarr__V1__TagImageRequest in = KNARR__V1__TAG_IMAGE_REQUEST__INIT;
	Knarr__V1__TagImageResponse *out;
	char **words;
	int rc = cli_options(cli, "tag", opts, 0, argv, &words, e);

	if (rc)
		return rc < 0 ? -1 : 0;
	if (strv_len(words) != 2)
		return err_set(e, ERR_INVALID, "knarr tag: give an image and its new name");
	in.image = words[0];
	in.reference = words[1];
	if (cli_connect(cli, e) < 0)
		return -1;
	return KNARR(cli->client, cli->call, TagImage, tag_image, &in, &out, e);
}
