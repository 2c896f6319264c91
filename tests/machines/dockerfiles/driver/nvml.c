/* A stand-in for the library of NVIDIA's driver (libnvidia-ml.so.1): it tells of the cards that /etc/gpus.csv lists.
 * Only what pynvml needs to list them; nothing can compute on them, as with a driver that torch cannot use. */
#include <stdio.h>
#include <string.h>

enum { OK = 0, INVALID = 2, NOT_FOUND = 6, NO_DRIVER = 9, MOST = 16 };

typedef struct { char uuid[96], name[96]; unsigned long long total, free; int major, minor; } Card;
typedef struct { unsigned long long total, free, used; } Memory;

static Card cards[MOST];
static unsigned int count;
static char driver[80];

int nvmlInitWithFlags(unsigned int flags) {
  (void)flags;
  FILE *file = fopen("/etc/gpus.csv", "r");
  if (!file) return NO_DRIVER;
  char line[512];
  if (!fgets(line, sizeof line, file)) line[0] = 0; /* the names of the columns */
  for (count = 0; count < MOST && fgets(line, sizeof line, file); count++) {
    Card *card = &cards[count];
    if (sscanf(line, "%*d,%95[^,],%95[^,],%llu,%llu,%79[^,],%d.%d", card->uuid, card->name, &card->total, &card->free,
               driver, &card->major, &card->minor) != 7) break;
    card->total <<= 20, card->free <<= 20;
  }
  fclose(file);
  return OK;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return OK; }
int nvmlDeviceGetCount_v2(unsigned int *result) { *result = count; return OK; }
int nvmlSystemGetDriverVersion(char *text, unsigned int size) { snprintf(text, size, "%s", driver); return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, Card **card) {
  if (index >= count) return INVALID;
  *card = &cards[index];
  return OK;
}
int nvmlDeviceGetName(Card *card, char *text, unsigned int size) { snprintf(text, size, "%s", card->name); return OK; }
int nvmlDeviceGetUUID(Card *card, char *text, unsigned int size) { snprintf(text, size, "%s", card->uuid); return OK; }
int nvmlDeviceGetCudaComputeCapability(Card *card, int *major, int *minor) {
  *major = card->major, *minor = card->minor;
  return OK;
}
int nvmlDeviceGetMemoryInfo(Card *card, Memory *memory) {
  *memory = (Memory){card->total, card->free, card->total - card->free};
  return OK;
}
const char *nvmlErrorString(int code) { return code == NO_DRIVER ? "Driver Not Loaded" : "Unknown Error"; }
