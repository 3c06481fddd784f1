"""Codes of languages as data sets and tokenizers write them: `en`, `en-US`, `en_XX`, `eng_Latn`."""

import re
from collections.abc import Iterable

CODE = re.compile(r"[A-Za-z]{2,8}([_-][A-Za-z0-9]{1,8})*")
# ISO 639-1: what a column that is named after a language is called.
TWO_LETTERS = frozenset(
    re.findall(
        r"[a-z]+",
        """
aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de
dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id
ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu
lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu
rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr
ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
""",
    )
)


# ISO 639-1 and 639-3 codes of one language, those that tokenizers of many languages know (NLLB, M2M100).
SHORT = {
    long: short
    for short, long in re.findall(
        r"([a-z]{2})=([a-z]{3})",
        """
af=afr am=amh ar=arb ar=ara as=asm az=azj az=aze be=bel bg=bul bm=bam bn=ben bo=bod br=bre bs=bos ca=cat cs=ces
cy=cym da=dan de=deu dz=dzo ee=ewe el=ell en=eng eo=epo es=spa et=est eu=eus fa=pes fa=fas ff=ful ff=fuv fi=fin
fj=fij fo=fao fr=fra fy=fry ga=gle gd=gla gl=glg gn=grn gu=guj ha=hau he=heb hi=hin hr=hrv ht=hat hu=hun hy=hye
id=ind ig=ibo is=isl it=ita ja=jpn jv=jav ka=kat ki=kik kk=kaz km=khm kn=kan ko=kor ks=kas ku=kmr ku=kur ky=kir
la=lat lb=ltz lg=lug li=lim ln=lin lo=lao lt=lit lv=lvs lv=lav mg=plt mg=mlg mi=mri mk=mkd ml=mal mn=khk mn=mon
mr=mar ms=zsm ms=msa mt=mlt my=mya nb=nob ne=npi ne=nep nl=nld nn=nno no=nor ny=nya oc=oci om=gaz om=orm or=ory
or=ori pa=pan pl=pol ps=pbt ps=pus pt=por qu=quy qu=que rn=run ro=ron ru=rus rw=kin sa=san sc=srd sd=snd sg=sag
si=sin sk=slk sl=slv sm=smo sn=sna so=som sq=als sq=sqi sr=srp ss=ssw st=sot su=sun sv=swe sw=swh sw=swa ta=tam
te=tel tg=tgk th=tha ti=tir tk=tuk tl=tgl tn=tsn tr=tur ts=tso tt=tat tw=twi ug=uig uk=ukr ur=urd uz=uzn uz=uzb
vi=vie wo=wol xh=xho yi=ydd yi=yid yo=yor zh=zho zh=cmn zu=zul
""",
    )
}


def primary(code: str) -> str:
    """The language of a code, without region and script: `en` of `en-US`."""
    return re.split(r"[_-]", code, maxsplit=1)[0].casefold()


def matching(asked: str, codes: Iterable[str]) -> list[str]:
    """Which of the codes name the language that is asked for: the same code, else all of the same language."""
    known = list(codes)
    folded = asked.casefold().replace("_", "-")
    same = [code for code in known if code.casefold().replace("_", "-") == folded]
    return same or [code for code in known if _language(code) == _language(asked)]


def _language(code: str) -> str:
    language = primary(code)
    return SHORT.get(language, language)
